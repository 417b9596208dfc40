"""What the conformance, crash and benchmark commands stand on: servers, keys, requests.

Owns: how each server is started on loopback, ended by its own pid and measured, where things that
are not the project's own (peers, virtual environments, data) are kept, and a SigV4 client small
enough to send wrong requests on purpose. Standard library only, so that it runs before any virtual
environment exists. Does not know what is tested with it.
"""
