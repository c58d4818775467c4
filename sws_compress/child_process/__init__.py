"""Calls of native libraries on untrusted models, in a process whose memory and time are bounded and that may crash.

``client`` is our side, ``server`` the child's, ``wire`` what they say to each other, ``limits`` what a call may take.
"""
