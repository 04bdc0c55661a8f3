/*
 * Whose bucket it is: two databases with a reconciler each, and one bucket, for spin. README.md says
 * what stands for what; `run` checks it whole, and once without each rule (-DNO_...).
 *
 * Database 0 is there first and leads. Database 1 comes of it: a clone of its files, a standby that
 * is promoted (and may have missed the last change), or a dump in another cluster. The reconciler
 * of a database has the database's number.
 */
#ifndef CHANGES
#define CHANGES 3 /* commits in all */
#endif
#ifndef CRASHES
#define CRASHES 1 /* of a reconciler, which is started again */
#endif
#ifndef FREEZES
#define FREEZES 1 /* of a reconciler, which wakes some time later */
#endif
#ifndef LOSSES
#define LOSSES 1 /* a database takes no writes any more; it may again */
#endif
#ifndef ACTS
#define ACTS 1 /* somebody takes over on purpose */
#endif

#define NOTHING  0
#define CLONE    1
#define STANDBY  2
#define DUMP     3

#define IDLE  0
#define LOOK  1 /* has read the checkpoint */
#define ASKED 2 /* has asked who leads */
#define CLAIM 3 /* may have the bucket, and is about to store the checkpoint */
#define LEAD  4

/* ---- the databases ---- */

byte commits;  /* ever: a change's number is its nonce */
byte last[2];  /* the newest change ... */
bit has[8];    /* ... and whether a change is there: 2 * change + database */
byte kind;     /* what database 1 is */
byte system[2];
byte timeline[2];
bit writable[2];

/* ---- the bucket's checkpoint ---- */

byte seq = 1;      /* of the key */
byte cp_system;
byte cp_timeline;
byte cp_address;
byte cp_change;
bit cp_taken;      /* for that database, on purpose */

/* ---- the reconcilers ---- */

byte st[2];
bit frozen[2];
byte known[2];     /* sequence that the checkpoint had, or got from us */
bit led[2];        /* the other one answered that it leads */
byte waiting[2];   /* the sequence at which a wait began; 0: none */
bit waited[2];     /* the claim is one that a wait came before */

/* ---- what only the checks know ---- */

bit alive[2];      /* the other one has led in good health since we looked */
bit excused[2];    /* it has crashed, stood still or lost its database since it claimed */
bit moved[2];      /* something was published since the wait began */
byte owner;        /* who claimed last */
bit promoted_led;
byte meant = 2;    /* for whom the last act was, until that one leads; 2: nobody */
byte crashes, freezes, losses, acts;

#define HAS(c, d)  has[2 * (c) + (d)]
#define HEALTHY(d) (st[d] == LEAD && !frozen[d] && writable[d])

inline sick(d)
{
	excused[d] = 1;
	alive[1 - (d)] = 0
}

inline store(d)
{
	seq++;
	known[d] = seq;
	cp_system = system[d];
	cp_timeline = timeline[d];
	cp_address = d;
	cp_change = last[d]
}

/* What the table says of database r, which knows the checkpoint's change or does not. */
inline judge(knows)
{
	waited[r] = 0;
	if
	:: cp_taken && cp_address != r -> st[r] = IDLE
	:: cp_taken && cp_address == r -> st[r] = CLAIM
	:: else ->
		if
		:: cp_system != system[r] -> wait()
#ifdef NO_TIMELINE
		:: cp_system == system[r] && (knows) && cp_address == r -> st[r] = CLAIM
		:: cp_system == system[r] && (knows) && cp_address != r && cp_timeline >= timeline[r] ->
			wait()
		:: cp_system == system[r] && (knows) && cp_address != r && cp_timeline < timeline[r] ->
			st[r] = CLAIM
#else
		:: cp_system == system[r] && cp_timeline > timeline[r] -> st[r] = IDLE
		:: cp_system == system[r] && cp_timeline == timeline[r] && (knows) && cp_address == r ->
			st[r] = CLAIM
		:: cp_system == system[r] && cp_timeline == timeline[r] && (knows) && cp_address != r ->
			wait()
		:: cp_system == system[r] && cp_timeline < timeline[r] && (knows) -> st[r] = CLAIM
#endif
		:: cp_system == system[r] && cp_timeline < timeline[r] && !(knows) -> st[r] = CLAIM
		:: cp_system == system[r] && cp_timeline >= timeline[r] && !(knows) -> st[r] = IDLE
		fi
	fi
}

/* Time is not in the model: from the second look on, the wait may be over. */
inline wait()
{
	if
#ifdef NO_STILL
	:: waiting[r] != 0 -> st[r] = CLAIM; waited[r] = 1
#else
	:: waiting[r] == seq -> st[r] = CLAIM; waited[r] = 1
#endif
	:: true ->
		st[r] = IDLE;
		if
#ifdef NO_STILL
		:: waiting[r] == 0 -> waiting[r] = seq; moved[r] = 0
#else
		:: waiting[r] != seq -> waiting[r] = seq; moved[r] = 0
#endif
		:: else
		fi
	fi
}

inline check_claim()
{
	if
	:: meant != 2 && meant != r -> printf("VIOLATED acts_hold\n"); assert(false)
	:: else
	fi;
	if
	:: alive[r] && !cp_taken -> printf("VIOLATED healthy_leader_stands\n"); assert(false)
	:: else
	fi;
	if
	:: owner != r && !excused[owner] && !cp_taken -> printf("VIOLATED nobody_fights\n"); assert(false)
	:: else
	fi;
	if
	:: kind == STANDBY && r == 0 && promoted_led && !cp_taken -> printf("VIOLATED stale_stays_back\n"); assert(false)
	:: else
	fi;
	if
	:: kind == CLONE && !HAS(cp_change, r) && !cp_taken -> printf("VIOLATED no_copy_goes_back\n"); assert(false)
	:: else
	fi;
	if
	:: waited[r] && moved[r] -> printf("VIOLATED waits_in_full\n"); assert(false)
	:: else
	fi
}

proctype reconciler(bit r)
{
end:
	do
	:: atomic { st[r] == IDLE && !frozen[r] && writable[r] ->
		st[r] = LOOK;
		known[r] = seq;
		alive[r] = HEALTHY(1 - r) }
	:: atomic { st[r] == LOOK && !frozen[r] ->
		st[r] = ASKED;
#ifdef NO_QUESTION
		led[r] = 0
#else
		led[r] = HEALTHY(1 - r)
#endif
		}
	:: atomic { st[r] == ASKED && !frozen[r] ->
		if
		:: led[r] -> st[r] = IDLE; waiting[r] = 0
		:: !led[r] && known[r] != seq -> st[r] = IDLE /* what it read is old, the claim would fail */
#ifdef NO_NONCE
		:: !led[r] && known[r] == seq -> judge(true)
#else
		:: !led[r] && known[r] == seq -> judge(HAS(cp_change, r))
#endif
#ifdef NO_CAS_CLAIM
		:: !led[r] && known[r] != seq -> judge(HAS(cp_change, r))
#endif
		fi;
		led[r] = 0 }
	:: atomic { st[r] == CLAIM && !frozen[r] ->
#ifndef NO_CAS_CLAIM
		if
		:: known[r] != seq -> st[r] = IDLE
		:: else ->
#endif
			check_claim();
			store(r);
			cp_taken = 0;
			meant = 2;
			st[r] = LEAD;
			owner = r;
			excused[r] = !writable[r];
			waiting[r] = 0;
			promoted_led = promoted_led || (kind == STANDBY && r == 1)
#ifndef NO_CAS_CLAIM
		fi
#endif
		;
		waited[r] = 0;
		alive[r] = 0 }
	/* A change is published, and with it the checkpoint. */
	:: atomic { st[r] == LEAD && !frozen[r] && cp_change != last[r] ->
#ifndef NO_CAS_CLAIM
		if
		:: known[r] != seq -> st[r] = IDLE; sick(r)
		:: else ->
#endif
			if
			:: owner != r -> printf("VIOLATED one_writes\n"); assert(false)
			:: else
			fi;
			store(r);
			moved[1 - r] = 1
#ifndef NO_CAS_CLAIM
		fi
#endif
		}
	/* It yields, and is told when somebody else has the key. */
	:: atomic { st[r] != IDLE && !frozen[r] && !writable[r] -> st[r] = IDLE; sick(r) }
	:: atomic { st[r] == LEAD && !frozen[r] && known[r] != seq -> st[r] = IDLE; sick(r) }
	od
}

inline commit(d)
{
	commits++;
	last[d] = commits;
	HAS(commits, d) = 1
}

active proctype world()
{
	byte d;

	atomic {
		writable[0] = 1;
		system[0] = 1;
		system[1] = 1;
		timeline[0] = 1;
		timeline[1] = 1;
		HAS(0, 0) = 1;
		commit(0);
		store(0);
		st[0] = LEAD;
		excused[1] = 1;
		run reconciler(0);
		run reconciler(1)
	}
end:
	do
	:: atomic { commits < CHANGES && writable[0] -> commit(0) }
	:: atomic { commits < CHANGES && writable[1] -> commit(1) }
	/* The other database comes. */
	:: atomic { kind == NOTHING ->
		writable[1] = 1;
		d = 0;
		do
		:: d < last[0] || (d == last[0]) -> HAS(d, 1) = HAS(d, 0); d++
		:: d > last[0] -> break
		od;
		d = 0;
		last[1] = last[0];
		if
		:: kind = CLONE
		:: kind = STANDBY; timeline[1] = 2
		:: kind = STANDBY; timeline[1] = 2; HAS(last[0], 1) = 0; last[1] = last[0] - 1
		:: kind = DUMP; system[1] = 2
		:: kind = DUMP; system[1] = 2; HAS(last[0], 1) = 0; last[1] = last[0] - 1
		fi }
	:: atomic { crashes < CRASHES ->
		crashes++;
		select(d : 0 .. 1);
		st[d] = IDLE;
		frozen[d] = 0;
		waiting[d] = 0;
		waited[d] = 0;
		led[d] = 0;
		sick(d);
		d = 0 }
	:: atomic { freezes < FREEZES ->
		freezes++;
		select(d : 0 .. 1);
		frozen[d] = 1;
		sick(d);
		d = 0 }
	:: atomic { frozen[0] -> frozen[0] = 0 }
	:: atomic { frozen[1] -> frozen[1] = 0 }
	:: atomic { losses < LOSSES && writable[0] -> losses++; writable[0] = 0; sick(0) }
	:: atomic { losses < LOSSES && writable[1] -> losses++; writable[1] = 0; sick(1) }
	:: atomic { !writable[0] -> writable[0] = 1 }
	:: atomic { kind != NOTHING && !writable[1] -> writable[1] = 1 }
	/* Somebody takes over: the claim is in the checkpoint, its leader comes later. */
	:: atomic { acts < ACTS && kind != NOTHING ->
		acts++;
		select(d : 0 .. 1);
		if
		:: writable[d] && !HEALTHY(d) ->
			seq++;
			cp_system = system[d];
			cp_timeline = timeline[d];
			cp_address = d;
			cp_change = last[d];
#ifndef NO_MARK
			cp_taken = 1;
#endif
			meant = d;
			promoted_led = 0
		:: else
		fi;
		d = 0 }
	od
}
