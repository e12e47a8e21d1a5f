-- Whether a replay is a test of one dead letter, and what that came to, as JSON.
ALTER TABLE replays ADD COLUMN test INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replays ADD COLUMN tried TEXT;

-- A replay that is cancelled gives back everything that is not held, at once. Before, what was in memory was given back by the
-- next start: what was left then is given back here.
UPDATE failure_groups SET replaying = replaying - n, open = open + n FROM
    (SELECT l.failure_group, count(*) AS n FROM replays r
     JOIN replay_items i ON i.replay = r.number JOIN letters l ON l.number = i.letter
     WHERE r.state = 'cancelled' AND i.state = 0 AND l.state = 1 GROUP BY l.failure_group)
WHERE number = failure_group;
UPDATE letters SET state = 0 WHERE state = 1 AND number IN
    (SELECT i.letter FROM replays r JOIN replay_items i ON i.replay = r.number WHERE r.state = 'cancelled' AND i.state = 0);
UPDATE replays SET skipped = skipped + (SELECT count(*) FROM replay_items i WHERE i.replay = replays.number AND i.state = 0)
WHERE state = 'cancelled';
UPDATE replay_items SET state = 4 WHERE state = 0 AND replay IN (SELECT number FROM replays WHERE state = 'cancelled');
