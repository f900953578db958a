"""Peers: handshake, headers-first sync, announcements, relay; the wire is HTTP below /p2p/v1.

- limits, wire, errors: what may be said, how, and how much of it
- urls, guard, standing: which addresses may be contacted at all, and who is refused
- gate, routes: answering peers
- client, peers, connections: asking peers, what is known of them, keeping up the relation
- claims, sync: unverified headers, and turning them into verified blocks
- relay: passing on what is new
- network: all of it together
"""
