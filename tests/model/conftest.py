"""Examples of Hypothesis may take their time on a machine that is busy."""

import hypothesis

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
