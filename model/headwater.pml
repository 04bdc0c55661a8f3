/*
 * The protocol between PostgreSQL, two reconcilers and NATS, for spin. README.md says what stands
 * for what; `run` checks it whole, and once without each rule (-DNO_...).
 *
 * Positions: the transaction at position p of the database's log has the LSN 2p. What a comparison
 * writes behind it has 2p + 1: a position of its own. A fence is one byte, epoch * 16 + LSN.
 * A value is the number of the commit that made it: two histories never share one.
 */

/* How much may happen: a configuration defines what it wants to see. */
#ifndef TXS
#define TXS 3 /* commits in all */
#endif
#ifndef CRASHES
#define CRASHES 0 /* of a reconciler */
#endif
#ifndef FREEZES
#define FREEZES 0 /* of a leader, which loses the slot and wakes some time later */
#endif
#ifndef PG_RESTARTS
#define PG_RESTARTS 0 /* the slot is free, its confirmed position may be an older one */
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 0 /* NATS loses the newest entries, or all of them */
#endif
#ifndef HOLES
#define HOLES 0 /* NATS loses an entry from the middle */
#endif
#ifndef FOREIGN
#define FOREIGN 0 /* writes of someone else */
#endif
#ifndef ARCHIVINGS
#define ARCHIVINGS 0 /* the archive slot catches up with the main one */
#endif
#ifndef DROPS
#define DROPS 0 /* both slots are lost, and made anew at the log's end */
#endif
#ifndef RESTORES
#define RESTORES 0 /* the database goes back, and on with another history */
#endif
/* ONE: every transaction touches key 0 alone. */
#ifdef ONE
#define TOUCHABLE 1
#else
#define TOUCHABLE 3
#endif
#ifndef LOG
#define LOG 16 /* entries that fit the stream */
#endif

#define RECS  2
#define CKPT  2 /* the checkpoint's key; 0 and 1 are nodes */
#define KEYS  3
#define NOONE 7
#define CLAIMED(h) ((h) + 16) /* of a checkpoint that holds no position yet */
#define ALIEN 255 /* a value that is not of ours */

#define FENCE(e, lsn) ((e) * 16 + (lsn))
#define EPOCH(f)      ((f) / 16)
#define LSN(f)        ((f) % 16)

/* ---- PostgreSQL ---- */

byte commits;       /* ever */
byte end_;          /* of the log: the number of transactions in it */
byte made[TXS + 1]; /* which commit made position p */
byte keys[TXS + 1]; /* bit k: it touched key k */
byte history;       /* system identifier and timeline */
byte holder = NOONE; /* of the slot */
byte confirmed;     /* of the slot */
byte archive;       /* position of the archive slot */

/* ---- NATS: entry i has the sequence number i + 1 ---- */

byte count = 1;
byte key[LOG];   /* key + 1; 0: lost, or not there yet */
byte fence[LOG]; /* 0: of someone else */
byte value[LOG]; /* of a checkpoint: the history */

/* ---- reconcilers ---- */

#define IDLE  0
#define LOOK  1 /* holds the slot, has read the checkpoint */
#define LOAD  2 /* has claimed it */
#define LEAD  3
#define NO    0
#define DUE   1
#define RUN   2

byte st[RECS];
bit frozen[RECS];
bit fresh[RECS];     /* connected to NATS since before it lost anything */
byte epoch[RECS];
byte timeline[RECS];  /* the history that it took the slot of */
bit other[RECS];     /* the checkpoint is of another history, or there is none */
byte got[RECS];      /* position that the stream has reached */
byte todo[RECS];     /* keys of that transaction that wait for an earlier publish */
byte what[RECS];     /* its value */
byte stored[RECS];   /* position of the checkpoint that it stored */
bit withheld[RECS];  /* no checkpoint until the comparison is through */
byte seq[6];         /* known last sequence of a key: r * KEYS + k */
byte newest[4];      /* newest fence known on a key: r * 2 + k */
byte known[RECS];    /* sequences of the stream that are accounted for */
byte comparison[RECS];
byte comparison_at[RECS]; /* the snapshot's position ... */
byte comparison_of[RECS]; /* ... the keys that are still to be compared ... */
byte snapshot[4];    /* ... and their values: r * 2 + k */

/* Publishes: r * KEYS + k */
#define NONE    0
#define SENT    1
#define ACKED   2 /* the answer waits for a frozen reconciler */
#define REFUSED 3
byte pub[6];
byte pub_seq[6]; /* expected; when acknowledged: given */
byte pub_fence[6];
byte pub_value[6];

/* ---- an agent, of key 0 ---- */

byte agent_fence;
byte agent_value;
byte shown; /* the fence of the key's last entry */

/* ---- what only the checks know ---- */

byte excused;   /* a rebuild promises states, not revisions, up to this position */
byte holed[2];  /* bit p: NATS lost the entry of position p from the middle */
byte crashes, freezes, pg_restarts, rollbacks, holes, foreign, archivings, drops, restores;
byte i, j, f, m, s, hit; /* scratch, 0 between steps */
bool ok;

#define P(k) (r * KEYS + (k))
#define N(k) (r * 2 + (k))

/*
 * Sets m to 1 + where the last entry of key k is, 0 for none, and s to its sequence number.
 *
 * Where the end of the stream can be lost, the order of the stream is kept, and a sequence number
 * may be given twice. Elsewhere only the order within a key can matter: entries are kept in the
 * order of keys, and a sequence number counts those of its key. That leaves far fewer states.
 */
inline last(k)
{
	m = count;
	do
	:: m > 0 && key[m - 1] != (k) + 1 -> m--
	:: else -> break
	od;
#if ROLLBACKS
	s = m
#else
	s = m;
	i = 0;
	do
	:: i < count && m > 0 && key[i] < (k) + 1 -> s--; i++
	:: else -> break
	od;
	i = 0
#endif
}

/* Appends an entry of key k to the stream, and sets s to its sequence number. */
inline append(k, new, val)
{
	i = count;
	count++;
#if !ROLLBACKS
	do
	:: i > 0 && key[i - 1] > (k) + 1 ->
		key[i] = key[i - 1];
		fence[i] = fence[i - 1];
		value[i] = value[i - 1];
		i--
	:: else -> break
	od;
#endif
	key[i] = (k) + 1;
	fence[i] = new;
	value[i] = val;
	i = 0;
	last(k);
	m = 0
}

/* Sets f to the newest fence on key k: of its last entry, or of all that are kept. */
inline newest_fence(k)
{
	f = 0;
	i = 0;
	do
	:: i < count ->
		if
#ifdef NO_HISTORY
		:: key[i] == (k) + 1 -> f = fence[i]
#else
		:: key[i] == (k) + 1 && fence[i] > f -> f = fence[i]
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* Sets hit to the number of entries of key k that carry position p of this history. */
inline occurrences(k, p)
{
	hit = 0;
	i = 0;
	do
	:: i < count ->
		if
		:: key[i] == (k) + 1 && LSN(fence[i]) == 2 * (p) && value[i] == made[p] -> hit++
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* Sets m to the commit that made the value of key k at position p, 0 for none. */
inline state_at(k, p)
{
	m = p;
	do
	:: m > 0 && !(keys[m] & (1 << (k))) -> m--
	:: else -> break
	od;
	m = made[m]
}

/* ---- invariants ---- */

/* A new entry on a node's key, in front of what is there. */
inline check_entry(k, new)
{
	i = 0;
	do
	:: i < count ->
		if
		:: key[i] == (k) + 1 ->
			if
			:: fence[i] == (new) -> printf("VIOLATED nothing_doubled\n"); assert(false)
			:: fence[i] > (new) && holder != r ->
				printf("VIOLATED zombie_writes_nothing_wrong\n"); assert(false)
			:: fence[i] > (new) && holder == r ->
				printf("VIOLATED fences_only_grow\n"); assert(false)
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* Up to position p every transaction has its entries, or a rebuild or a known loss explains it. */
inline check_covered(p)
{
	j = 1;
	do
	:: j <= (p) ->
		if
		:: (keys[j] & 1) && j > excused && !(holed[0] & (1 << j)) -> occurrences(0, j)
		:: else -> hit = 1
		fi;
		ok = ok && hit > 0;
		if
		:: (keys[j] & 2) && j > excused && !(holed[1] & (1 << j)) -> occurrences(1, j)
		:: else -> hit = 1
		fi;
		ok = ok && hit > 0;
		j++
	:: else -> break
	od;
	hit = 0;
	j = 0
}

/* ... and every key has an entry with its state at position p, or with a newer one. */
inline check_state(k, p)
{
	j = p;
	do
	:: j > 0 && !(keys[j] & (1 << (k))) -> j--
	:: else -> break
	od;
	if
	:: j > 0 && !(holed[k] & (1 << j)) ->
		hit = 0;
		i = 0;
		do
		:: i < count ->
			if
			:: key[i] == (k) + 1 && (value[i] == made[j] || (fence[i] >= FENCE(epoch[r], 2 * j)))
				-> hit = 1
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0;
		ok = ok && hit;
		hit = 0
	:: else
	fi;
	j = 0
}

inline check_checkpoint(new, whose)
{
	if
	:: whose == history ->
		ok = true;
		check_covered(LSN(new) / 2);
		check_state(0, LSN(new) / 2);
		check_state(1, LSN(new) / 2);
		if
		:: !ok -> printf("VIOLATED checkpoint_covers\n"); assert(false)
		:: else
		fi;
		ok = false
	:: else
	fi
}

/* ---- steps of a reconciler ---- */

inline clear(k)
{
	pub[P(k)] = NONE;
	pub_seq[P(k)] = 0;
	pub_fence[P(k)] = 0;
	pub_value[P(k)] = 0
}

inline send(k, expected, new, val)
{
	pub[P(k)] = SENT;
	pub_seq[P(k)] = expected;
	pub_fence[P(k)] = new;
	pub_value[P(k)] = val
}

inline forget()
{
	st[r] = IDLE;
	frozen[r] = 0;
	epoch[r] = 0;
	timeline[r] = 0;
	other[r] = 0;
	got[r] = 0;
	todo[r] = 0;
	what[r] = 0;
	stored[r] = 0;
	withheld[r] = 0;
	known[r] = 0;
	comparison[r] = NO;
	comparison_at[r] = 0;
	comparison_of[r] = 0;
	seq[P(0)] = 0;
	seq[P(1)] = 0;
	seq[P(2)] = 0;
	newest[N(0)] = 0;
	newest[N(1)] = 0;
	snapshot[N(0)] = 0;
	snapshot[N(1)] = 0;
	j = 0;
	do
	:: j < KEYS ->
		if
		:: pub[P(j)] == ACKED || pub[P(j)] == REFUSED -> clear(j)
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0;
	if
	:: holder == r -> holder = NOONE
	:: else
	fi
}

#define QUIET (pub[P(0)] != SENT && pub[P(1)] != SENT && pub[P(2)] != SENT)

/* Lets the slot forget what is before position p. */
inline confirm(p)
{
	if
	:: holder == r && (p) > confirmed ->
		confirmed = p;
		last(CKPT);
		if
		:: fresh[r] && m == 0 -> ok = true
		:: fresh[r] && m > 0 && value[m - 1] == history && LSN(fence[m - 1]) / 2 < confirmed ->
			ok = true
		:: else
		fi;
		m = 0;
		s = 0;
		if
		:: ok -> printf("VIOLATED confirmed_is_covered\n"); assert(false)
		:: else
		fi
	:: else
	fi
}

/* Takes the slot, reads the checkpoint, and decides. */
inline take()
{
	holder = r;
	fresh[r] = 1;
	st[r] = LOOK;
	timeline[r] = history;
	newest_fence(0);
	j = EPOCH(f);
	newest_fence(1);
	if
	:: EPOCH(f) > j -> j = EPOCH(f)
	:: else
	fi;
#ifdef NO_EPOCH_SEEN
	j = 0;
#endif
	last(CKPT);
	seq[P(CKPT)] = s;
	if
	:: m > 0 -> f = fence[m - 1]
	:: else -> f = 0
	fi;
	if
	:: m == 0 || value[m - 1] != history || LSN(f) / 2 > end_ || EPOCH(f) < j ->
		/* No checkpoint, one of another history, or only a claim: rebuild. */
		other[r] = 1;
		withheld[r] = 1;
		got[r] = confirmed;
		epoch[r] = (EPOCH(f) < j -> j : EPOCH(f));
		if
		:: m > 0 && EPOCH(f) >= j && value[m - 1] == CLAIMED(history)
#ifndef NO_EPOCH
		:: else -> epoch[r]++
#else
		:: else -> epoch[r] = (epoch[r] > 0 -> epoch[r] : 1)
#endif
		fi
	:: else ->
		epoch[r] = EPOCH(f);
		stored[r] = LSN(f) / 2;
		if
		:: stored[r] >= confirmed -> /* resume */
#ifdef NO_START
			got[r] = confirmed
#else
			got[r] = stored[r]
#endif
#ifndef NO_REPLAY
		:: stored[r] < confirmed && archive <= stored[r] -> /* replay */
			got[r] = stored[r]
#endif
#ifdef NO_REPLAY
		:: stored[r] < confirmed ->
#else
		:: stored[r] < confirmed && archive > stored[r] ->
#endif
			/* The server forwards to what was confirmed, without a word. */
			got[r] = confirmed;
#ifndef NO_REBUILD
			withheld[r] = 1
#endif
		fi
	fi;
#ifdef NO_WITHHOLD
	withheld[r] = 0;
#endif
	if
	:: (other[r] || archive > stored[r]) && got[r] > excused -> excused = got[r]
	:: else
	fi;
	f = 0;
	j = 0;
	m = 0;
	s = 0
}

/* Stores the checkpoint again; before a rebuild only who it is, and the epoch that it will use. */
inline claim()
{
#ifndef NO_CLAIM
	last(CKPT);
	if
	:: s != seq[P(CKPT)] -> forget()
	:: else ->
		if
		:: other[r] -> append(CKPT, FENCE(epoch[r], 0), CLAIMED(timeline[r]))
		:: else -> append(CKPT, FENCE(epoch[r], 2 * stored[r]), timeline[r])
		fi;
		seq[P(CKPT)] = s;
		st[r] = LOAD
	fi;
	m = 0;
	s = 0
#else
	st[r] = LOAD
#endif
}

inline load()
{
	known[r] = count;
	last(0);
	seq[P(0)] = s;
	last(1);
	seq[P(1)] = s;
	m = 0;
	s = 0;
	newest_fence(1);
	newest[N(1)] = f;
	newest_fence(0);
	newest[N(0)] = f;
	f = 0;
#ifdef NO_COMPARISON
	if
	:: withheld[r] -> comparison[r] = DUE
	:: else
	fi;
#else
	comparison[r] = DUE;
#endif
	st[r] = LEAD;
	confirm(stored[r])
}

/* Publishes the transaction's entry for key k, when no earlier one is in flight. */
inline pump(k)
{
	if
	:: (todo[r] & (1 << (k))) && pub[P(k)] == NONE ->
		todo[r] = todo[r] & ~(1 << (k));
		if
#ifndef NO_SKIP
		:: newest[N(k)] >= FENCE(epoch[r], 2 * got[r])
#endif
		:: else -> send(k, seq[P(k)], FENCE(epoch[r], 2 * got[r]), what[r])
		fi
	:: else
	fi
}

inline comparison_done()
{
	/* Keys that it passed over have their state with the transactions up to here. */
	comparison_at[r] = (withheld[r] -> got[r] : 0);
	comparison_of[r] = 0;
	snapshot[N(0)] = 0;
	snapshot[N(1)] = 0
}

inline stream()
{
	got[r]++;
	todo[r] = keys[got[r]];
	what[r] = made[got[r]];
#ifndef NO_TOUCHED
	if
	:: comparison[r] == RUN && got[r] > comparison_at[r] -> comparison_of[r] = comparison_of[r] & ~todo[r]
	:: else
	fi;
	if
	:: comparison[r] == RUN && comparison_of[r] == 0 -> comparison[r] = NO; comparison_done()
	:: else
	fi;
#endif
	pump(0);
	pump(1);
	if
	:: todo[r] == 0 -> what[r] = 0
	:: else
	fi
}

inline read_snapshot()
{
	comparison[r] = RUN;
	comparison_at[r] = end_;
	comparison_of[r] = TOUCHABLE;
	state_at(0, end_);
	snapshot[N(0)] = m;
	state_at(1, end_);
	snapshot[N(1)] = m;
	m = 0
}

/* Compares key k with the snapshot and writes what differs, with a fence of its own. */
inline compare(k)
{
	comparison_of[r] = comparison_of[r] & ~(1 << (k));
	last(k);
	newest_fence(k);
	if
	:: m == 0 && snapshot[N(k)] == 0
	:: m > 0 && value[m - 1] == snapshot[N(k)]
	:: else ->
		if
		:: f < FENCE(epoch[r], 2 * got[r] + 1) ->
			send(k, s, FENCE(epoch[r], 2 * got[r] + 1), snapshot[N(k)])
		:: else
		fi
	fi;
	m = 0;
	s = 0;
	f = 0;
	if
	:: comparison_of[r] == 0 -> comparison[r] = NO; comparison_done()
	:: else
	fi
}

#define BUSY(k)  (pub[P(k)] != NONE)
#define EVEN(k)  (BUSY(k) && !(pub_fence[P(k)] & 1))
#define REPAIR(k) (BUSY(k) && (pub_fence[P(k)] & 1))
#define REACHED  (got[r] - (todo[r] != 0))
#ifdef NO_ACKS
#define APPLIED REACHED
#else
#define BEFORE(k) (LSN(pub_fence[P(k)]) / 2 - 1)
#define FIRST(k, p) (EVEN(k) && BEFORE(k) < (p) -> BEFORE(k) : (p))
#define APPLIED (EVEN(1) && BEFORE(1) < FIRST(0, REACHED) -> BEFORE(1) : FIRST(0, REACHED))
#endif

#ifdef NO_BEHIND
#define BEHIND true
#else
#define BEHIND (APPLIED >= comparison_at[r])
#endif

/* The server's answer to the publish on key k. */
inline acknowledged(k)
{
	seq[P(k)] = pub_seq[P(k)];
	if
	:: (k) == CKPT -> 
		stored[r] = LSN(pub_fence[P(k)]) / 2;
		other[r] = 0;
		confirm(stored[r])
	:: else -> newest[N(k)] = pub_fence[P(k)]
	fi;
	clear(k);
	pump(0);
	pump(1);
	if
	:: todo[r] == 0 -> what[r] = 0
	:: else
	fi
}

inline refused(k)
{
	if
	:: (k) == CKPT -> clear(k); forget()
	:: else ->
		last(k);
		newest_fence(k);
		if
		:: f == pub_fence[P(k)] -> /* done before */
			pub_seq[P(k)] = s;
			acknowledged(k)
		:: f > pub_fence[P(k)] -> /* another one leads */
			clear(k);
			forget()
		:: else -> /* someone else wrote it: over it */
			send(k, s, pub_fence[P(k)], pub_value[P(k)])
		fi;
		m = 0;
		s = 0;
		f = 0
	fi
}

inline expose()
{
#ifndef AGENT
	skip
#else
	last(0);
	if
	:: m > 0 -> shown = fence[m - 1]
	:: else -> shown = 0
	fi;
	m = 0;
	s = 0
#endif
}

/* ---- NATS takes the publish on key k ---- */

inline deliver(k)
{
	last(k);
	if
#ifndef NO_CAS
	:: s != pub_seq[P(k)] ->
		m = 0;
		s = 0;
		if
		:: st[r] != LEAD -> clear(k)
		:: st[r] == LEAD && frozen[r] -> pub[P(k)] = REFUSED; pub_seq[P(k)] = 0
		:: else -> refused(k)
		fi
#endif
	:: else ->
		m = 0;
		if
		:: (k) == CKPT -> check_checkpoint(pub_fence[P(k)], pub_value[P(k)])
		:: else -> check_entry(k, pub_fence[P(k)])
		fi;
		append(k, pub_fence[P(k)], pub_value[P(k)]);
		pub_seq[P(k)] = s;
		s = 0;
		expose();
		if
		:: st[r] != LEAD -> clear(k)
		:: st[r] == LEAD && frozen[r] -> pub[P(k)] = ACKED; known[r]++
		:: else -> known[r]++; acknowledged(k)
		fi
	fi
}

#ifdef NO_RELOAD
#define CURRENT true
#else
#define CURRENT fresh[r]
#endif
#define AWAKE (!frozen[r])
#define LEADS (st[r] == LEAD && AWAKE)

proctype Reconciler(byte r)
{
end:
	do
	:: d_step { st[r] == IDLE && AWAKE && QUIET && holder == NOONE -> take() }
	:: d_step { st[r] == LOOK && AWAKE && holder == r && fresh[r] -> claim() }
	:: d_step { st[r] == LOAD && AWAKE && holder == r && fresh[r] -> load() }
	:: d_step { LEADS && holder == r && CURRENT && todo[r] == 0 && got[r] < end_ -> stream() }
	:: d_step { LEADS && CURRENT && !withheld[r] && !BUSY(CKPT) &&
			(APPLIED > stored[r] || other[r]) ->
		m = APPLIED;
		send(CKPT, seq[P(CKPT)], FENCE(epoch[r], 2 * m), timeline[r]);
		m = 0 }
#ifdef NO_CONFIRM
	:: d_step { LEADS && holder == r && APPLIED > confirmed -> m = APPLIED; confirm(m) }
#endif
#ifndef NO_WATCH
	:: d_step { LEADS && CURRENT && known[r] < count -> known[r] = count; comparison[r] = DUE; comparison_done() }
#endif
	:: d_step { LEADS && CURRENT && comparison[r] == DUE -> read_snapshot() }
	:: d_step { LEADS && CURRENT && comparison[r] == RUN && got[r] >= comparison_at[r] && todo[r] == 0 &&
			(comparison_of[r] & 1) && !BUSY(0) -> compare(0) }
	:: d_step { LEADS && CURRENT && comparison[r] == RUN && got[r] >= comparison_at[r] && todo[r] == 0 &&
			comparison_of[r] == 2 && !BUSY(1) -> compare(1) }
	:: d_step { LEADS && withheld[r] && comparison[r] == NO && !REPAIR(0) && !REPAIR(1) &&
			BEHIND ->
		withheld[r] = 0;
		comparison_at[r] = 0 }

	/* It notices what happened to its connections, sooner or later. */
	:: d_step { st[r] != IDLE && AWAKE && holder != r -> forget() }
	:: d_step { st[r] != IDLE && AWAKE && !CURRENT -> forget() }

	/* Answers that came while it was frozen. */
	:: d_step { LEADS && pub[P(0)] == ACKED -> acknowledged(0) }
	:: d_step { LEADS && pub[P(1)] == ACKED -> acknowledged(1) }
	:: d_step { LEADS && pub[P(2)] == ACKED -> acknowledged(2) }
	:: d_step { LEADS && pub[P(0)] == REFUSED -> refused(0) }
	:: d_step { LEADS && pub[P(1)] == REFUSED -> refused(1) }
	:: d_step { LEADS && pub[P(2)] == REFUSED -> refused(2) }

	/* The server takes, in any order, what is on the way; of a dead one some never arrives. */
	:: d_step { pub[P(0)] == SENT && count < LOG -> deliver(0) }
	:: d_step { pub[P(1)] == SENT && count < LOG -> deliver(1) }
	:: d_step { pub[P(2)] == SENT && count < LOG -> deliver(2) }
	:: d_step { pub[P(0)] == SENT && st[r] == IDLE -> clear(0) }
	:: d_step { pub[P(1)] == SENT && st[r] == IDLE -> clear(1) }
	:: d_step { pub[P(2)] == SENT && st[r] == IDLE -> clear(2) }

#if CRASHES
	:: d_step { st[r] != IDLE && crashes < CRASHES -> crashes++; forget() }
#endif
#if FREEZES
	:: d_step { st[r] == LEAD && AWAKE && holder == r && freezes < FREEZES ->
		freezes++; frozen[r] = 1; holder = NOONE }
	:: d_step { frozen[r] -> frozen[r] = 0 }
#endif
	od
}

/* What is on the way to NATS dies with the connection, and so does what was known. */
inline disconnect()
{
	fresh[0] = 0;
	fresh[1] = 0;
#ifndef NO_RELOAD
	i = 0;
	do
	:: i < 6 ->
		pub[i] = NONE;
		pub_seq[i] = 0;
		pub_fence[i] = 0;
		pub_value[i] = 0;
		i++
	:: else -> break
	od;
	i = 0
#endif
}

inline accept()
{
	if
	:: shown < agent_fence -> printf("VIOLATED agent_never_goes_back\n"); assert(false)
	:: else
	fi;
	last(0);
	agent_fence = shown;
	agent_value = value[m - 1];
	m = 0;
	s = 0
}

inline lose(at)
{
	key[at] = 0;
	fence[at] = 0;
	value[at] = 0
}

inline converged(k)
{
	last(k);
	if
	:: m > 0 -> j = value[m - 1]
	:: else -> j = 0
	fi;
	state_at(k, end_);
	ok = ok && j == m;
	j = 0;
	m = 0;
	s = 0
}

proctype World()
{
	byte n;
end:
	do
	:: atomic { commits < TXS ->
		if
		:: n = 1
#ifndef ONE
		:: commits > 0 -> n = 2 /* nor which key */
		:: n = 3
#endif
		fi;
		commits++;
		end_++;
		made[end_] = commits;
		keys[end_] = n;
		n = 0 }
#if PG_RESTARTS
	:: atomic { pg_restarts < PG_RESTARTS && (confirmed > archive || holder != NOONE) ->
		n = confirmed;
		do
		:: n > archive -> n--
		:: break
		od;
		pg_restarts++;
		confirmed = n;
		holder = NOONE;
		n = 0 }
#endif
#if ROLLBACKS
	:: atomic { rollbacks < ROLLBACKS ->
		n = count - 1;
		do
		:: n > 0 -> n--
		:: break
		od;
		rollbacks++;
		do
		:: count > n -> count--; lose(count)
		:: else -> break
		od;
		n = 0;
		expose();
		disconnect() }
#endif
#if HOLES
	:: atomic { holes < HOLES ->
		n = 0;
		do
		:: n + 1 < count -> n++
		:: break
		od;
		holes++;
		if
		:: (key[n] == 1 || key[n] == 2) && LSN(fence[n]) / 2 > 0 ->
			holed[key[n] - 1] = holed[key[n] - 1] | (1 << (LSN(fence[n]) / 2))
		:: else
		fi;
#if !ROLLBACKS
		do
		:: n + 1 < count ->
			key[n] = key[n + 1];
			fence[n] = fence[n + 1];
			value[n] = value[n + 1];
			n++
		:: else -> break
		od;
		count--;
#endif
		lose(n);
		n = 0;
		expose();
		disconnect() }
#endif
#if FOREIGN
	:: atomic { foreign < FOREIGN && count < LOG ->
		if
		:: n = 1
#ifndef ONE
		:: n = 2
#endif
		fi;
		foreign++;
		append(n - 1, 0, ALIEN);
		s = 0;
		expose();
		n = 0 }
#endif
#if ARCHIVINGS
	:: d_step { archivings < ARCHIVINGS && archive < confirmed ->
		archivings++; archive = confirmed }
#endif
#if DROPS
	:: d_step { drops < DROPS && holder == NOONE && confirmed < end_ ->
		drops++; confirmed = end_; archive = end_ }
#endif
#if RESTORES
	:: atomic { restores < RESTORES && end_ > 0 ->
		n = end_ - 1;
		do
		:: n > 0 -> n--
		:: break
		od;
		restores++;
		history++;
		do
		:: end_ > n -> made[end_] = 0; keys[end_] = 0; end_--
		:: else -> break
		od;
		holder = NOONE;
		confirmed = n;
		archive = n;
		if
		:: excused > n -> excused = n
		:: else
		fi;
		n = 0 }
#endif
#ifdef AGENT
#ifdef NO_AGENT_FENCE
	:: d_step { shown > 0 && shown != agent_fence -> accept() }
#else
	:: d_step { shown > agent_fence -> accept() }
#endif
#endif
	:: timeout -> break
	od;
	skip;
	/* Nothing is left to do. */
	d_step {
		ok = true;
		converged(0);
		converged(1);
		if
		:: !ok -> printf("VIOLATED converges\n"); assert(false)
		:: else
		fi;
		check_covered(end_);
		if
		:: !ok -> printf("VIOLATED nothing_lost\n"); assert(false)
		:: else
		fi;
		last(CKPT);
		ok = m > 0 && value[m - 1] == history && LSN(fence[m - 1]) / 2 == end_ && confirmed == end_ && holder != NOONE;
		if
		:: !ok -> printf("VIOLATED converges\n"); assert(false)
		:: else
		fi;
#ifdef AGENT
		state_at(0, end_);
		if
		:: m != agent_value -> printf("VIOLATED agent_converges\n"); assert(false)
		:: else
		fi;
#endif
		m = 0;
		ok = false
	}
}

init {
	atomic {
		key[0] = CKPT + 1;
		fence[0] = FENCE(1, 0);
		st[0] = LEAD; /* it makes no difference which one begins */
		holder = 0;
		fresh[0] = 1;
		epoch[0] = 1;
		seq[CKPT] = 1;
		known[0] = 1;
		run Reconciler(0);
		run Reconciler(1);
		run World()
	}
}
