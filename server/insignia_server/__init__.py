"""The gRPC server: one atlas, served read-only.

`service` decodes, calls the engine and encodes; `rpc` carries that off the event loop; `app` is the running
server.
"""
