-- What route decided, by minute of receipt. `repeat`: the door's own producer sent the event again; `duplicate`: the tool did.
SELECT minute, outcome, events FROM seen_minute
