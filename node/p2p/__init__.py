"""Peers: handshake, headers-first sync, announcements, relay; the wire is HTTP below /p2p/v1.

limits, wire, errors    what may be said, how, and how much of it
urls, guard             which addresses may be contacted at all
gate, routes            answering peers
client, peers           asking peers, and what is known of them
claims, sync            unverified headers, and turning them into verified blocks
relay                   passing on what is new
network                 all of it together
"""
