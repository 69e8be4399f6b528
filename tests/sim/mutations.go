package sim

import "github.com/forebayhub/forebay/tests/mutation"

// Mutations are all that can be found by what is simulated now. MUTATIONS.md tells what each is.
var Mutations = []mutation.Mutation{
	{Name: "no-truncation", Seed: 1, File: follow, Swap: []string{"p.log.TruncateTo(to)", "p.log.TruncateTo(max(to, p.log.EndOffset()))"}},
	{Name: "truncate-to-watermark", Seed: 106, File: follow, Swap: []string{"p.log.TruncateTo(to)", "p.log.TruncateTo(to*0 + p.hw.Load())"}},
	{Name: "no-divergence-check", Seed: 1, File: read, Swap: []string{"latest >= 0 && (epoch", "latest < -1 && (epoch"}},
	{Name: "watermark-before-truncation", Seed: 4, File: follow, Swap: []string{
		"	p.hw.Store(end)\n	return &Truncated", "	return &Truncated",
		"min(watermark, p.log.EndOffset())", "min(watermark, p.log.EndOffset()+3)"}},
	{Name: "watermark-beyond-log", Seed: 4, File: follow, Swap: []string{"max(before, min(watermark, p.log.EndOffset()))", "max(before, watermark)"}},
	{Name: "fetch-epoch-unchecked", Seed: 16, File: read, Swap: []string{"p.check(r.Epoch)", "p.check(AnyEpoch)"}},
	{Name: "append-epoch-unchecked", Test: []string{"./core/partition", "TestFollowerTakesNothingOfAnEpochThatIsOver"}, File: follow, Swap: []string{"case epoch != t.epoch, t.leading", "case t.leading"}},
	{Name: "begin-without-epoch", Seed: 110, File: state, Swap: []string{"_ = p.log.BeginEpoch(now.epoch)", ""}},
	{Name: "older-epoch-refused", Seed: 62, File: epochs, Swap: []string{"if n > 0 && epoch == l.epochs[n-1].epoch {", "if n > 0 && epoch <= l.epochs[n-1].epoch {"}},

	{Name: "ack-before-flush", Seed: 3, File: watermark, Swap: []string{"hw := p.log.DurableOffset()\n	for", "hw := p.log.EndOffset()\n	for",
		"hw = min(hw, p.endLocked(n))\n	}\n	if w", "if n != p.node {\n hw = min(hw, p.endLocked(n))\n}\n	}\n	if w"}},
	{Name: "fetch-before-flush", Seed: 3, File: fetcherFile, Swap: []string{"part.p.AwaitDurable(ctx, part.offset)", "part.p.AwaitDurable(ctx, 0)"}},
	{Name: "watermark-ignores-follower", Seed: 2, File: watermark, Swap: []string{"range p.mu.state.ISR {\n		hw", "range p.mu.state.ISR[:0] {\n		hw"}},
	{Name: "ack-under-min-isr", Seed: 1, File: watermark, Swap: []string{"p.mu.closed || p.underMinLocked()", "p.mu.closed"}},
	{Name: "ack-at-append", Seed: 1, File: acks, Swap: []string{"if p.hw.Load() > offset && p.leads", "if p.log.EndOffset() > offset && p.leads"}},
	{Name: "waiters-kept", Seed: 17, File: state, Swap: []string{"lost = p.mu.acks.drain()", "lost = nil"}},
	{Name: "recovery-unsynced", Seed: 3, File: recovery, Swap: []string{"if err := l.syncFiles(dirty, true, true); err", "if err := l.syncFiles(dirty[:0], false, false); err"}},

	{Name: "isr-unchecked", Seed: 730, File: fence, Swap: []string{"p.Leader != c.Leader || p.LeaderEpoch != c.LeaderEpoch || p.PartitionEpoch != c.PartitionEpoch ||", "p.Leader < 0 ||"}},
	{Name: "isr-without-partition-epoch", Seed: 730, File: fence, Swap: []string{"|| p.PartitionEpoch != c.PartitionEpoch ||", "||"}},
	{Name: "isr-registration-unchecked", Test: []string{"./core/metadata", "TestTranscripts"}, File: fence, Swap: []string{"|| i.Nodes[m.ID].Epoch != m.Epoch", ""}},
	{Name: "join-behind", Seed: 110, File: isr, Swap: []string{"f.end >= max(p.hw.Load(), t.start) && ", ""}},
	{Name: "join-below-epoch-start", Seed: 847, File: isr, Swap: []string{"max(p.hw.Load(), t.start)", "p.hw.Load()"}},
	{Name: "not-maximal-isr", Seed: 146, File: watermark, Swap: []string{"if w := p.mu.wished; w != nil {", "if w := p.mu.wished; w != nil && p.mu.closed {"}},
	{Name: "fetch-offset-remembered", Test: []string{"./core/partition", "TestWhoWasOutOfTheISRHasNothingUntilItFetches"}, File: isr, Swap: []string{"delete(p.mu.followers, n)", ""}},
	{Name: "unclean-election", Seed: 4, File: eligible, Swap: []string{"(slices.Contains(p.ISR, n) || len(p.ISR) == 0 && slices.Contains(p.ELR, n)) && ", ""}},
	{Name: "tail-lost-not-heeded", Seed: 4, File: eligible, Swap: []string{"case c.TailLost && (", "case c.TailLost && c.ID < 0 && ("}},
	{Name: "eligible-without-tail", Seed: 326, File: eligible, Swap: []string{"n != lost && ", ""}},
	{Name: "lease-not-waited-out", Seed: 1, File: active, Swap: []string{"until := a.now().Add(SessionTimeout)\n	a.mu", "until := a.now()\n	a.mu"}},

	{Name: "recovery-point-not-lowered", Seed: 15, File: truncation, Swap: []string{"l.saved.seq == 0 ||", "l.saved.seq < 1<<40 ||"}},
	{Name: "truncation-not-synced", Seed: 3, File: truncation, Swap: []string{"i):i+1], l.folderNew, true)", "i):i], false, false)"}},
	{Name: "torn-tail-kept", Seed: 14, File: recovery, Swap: []string{"r.step(w, w.pos >= trusted)", "r.step(w, false)"}},
	{Name: "same-boot-always", Seed: 71, File: recovery, Swap: []string{"r.killed = sameBoot(p.boot, l.boot)", "r.killed = true"}},
	{Name: "producer-state-kept", Seed: 16, File: truncation, Swap: []string{"l.epochs, l.table = epochs, table", "l.epochs, _ = epochs, table"}},
	{Name: "producer-snapshot-kept", Test: []string{"./core/commitlog", "TestModel"}, File: truncation, Swap: []string{"> end }); n < len(l.snaps) {", "> end }); n < 0 {"}},
	{Name: "duplicates-appended", Seed: 1, File: producers, Swap: []string{"if m, ok := p.duplicate(h); ok {", "if m, ok := p.duplicate(h); ok && m.first < 0 {"}},
	{Name: "epochs-kept", Test: []string{"./core/commitlog", "TestModel"}, File: truncation, Swap: []string{"l.epochs, l.table = epochs, table", "l.table = table"}},

	{Name: "coordinator-serves-before-replay", Seed: 1, File: keeper, Swap: []string{"for from := start; from < end; {", "for from := end; from < end; {"}},
	{Name: "load-not-acknowledged", Seed: 506, File: keeper, Swap: []string{"	if end > start {\n", "	if end < start {\n"}},
	{Name: "coordinator-failed-append-applied", Seed: 1, File: keeper, Swap: []string{"		if a.err == nil {\n", "		if a.err == nil || !a.shard.dead {\n"}},
	{Name: "late-end-of-transaction", Seed: 11, File: txnEnd, Swap: []string{"case !same && !retry:", "case !same && !retry && m.phase != ongoing:",
		"if !same {\n			return refuse, kerr.ProducerFenced.Code // of", "if producer < 0 {\n			return refuse, kerr.ProducerFenced.Code // of"}},
	{Name: "markers-before-decision", Seed: 504, File: txnEnd, Swap: []string{"return producer, epoch, t.writeAndWait(ctx, next, t.finish)",
		"before := t.cur\n		t.cur = next\n		t.finish()\n		t.cur = before\n		return producer, epoch, t.writeAndWait(ctx, next, t.finish)"}},
	{Name: "complete-before-markers", Seed: 1, File: txnEnd, Swap: []string{"if !c.mark(p, coordinatorEpoch, m.phase == prepareCommit, m.sorted(), func() bool { return s.gone() }) {",
		"if !c.spawn(func() { c.mark(p, coordinatorEpoch, m.phase == prepareCommit, m.sorted(), func() bool { return s.gone() }) }) {"}},
	{Name: "timeout-does-not-fence", Seed: 1, File: txnEnd, Swap: []string{"	if next.epoch < math.MaxInt16 {\n		next.epoch++", "	if next.epoch < 0 {\n		next.epoch++"}},
	{Name: "init-does-not-fence", Seed: 1, File: txnInit, Swap: []string{"case !known:\n		next.previous, next.epoch, next.lastEpoch = m.producer, m.epoch+1, -1", "case !known:\n		next.previous, next.epoch, next.lastEpoch = m.producer, max(m.epoch, 0), -1"}},
	{Name: "init-leaves-open", Seed: 1, File: txnInit, Swap: []string{"if t.cur.phase == ongoing {", "if t.cur.phase == ongoing && w.epoch >= 0 {"}},
	{Name: "init-before-markers", Seed: 80, File: txnInit, Swap: []string{"if t.busy || t.cur.phase.preparing() {", "if t.busy {"}},
	{Name: "enlist-unfenced", Seed: 1, File: txnAdd, Swap: []string{"code := t.cur.fenced(producer, epoch); code != 0 {", "code := t.cur.fenced(producer, epoch); code < 0 {"}},
	{Name: "partition-not-enlisted", Seed: 1, File: txnAdd, Swap: []string{"		next.parts[tp] = struct{}{}", "		_ = tp"}},
	{Name: "prepared-not-resumed", Seed: 5, File: txnState, Swap: []string{"if t.cur.phase.preparing() {\n			t.finish()", "if t.cur.phase.preparing() && t.busy {\n			t.finish()"}},

	{Name: "marker-of-old-coordinator", Test: []string{"./core/commitlog", "TestLastStable"}, File: producers, Swap: []string{"if m.CoordinatorEpoch < p.coord {", "if m.CoordinatorEpoch < -1 {"}},
	{Name: "marker-epoch-unchecked", Seed: 25, File: producers, Swap: []string{"if h.ProducerEpoch < p.epoch {\n		return fmt", "if h.ProducerEpoch < -1 {\n		return fmt"}},
	{Name: "late-marker", Seed: 5, File: producers, Swap: []string{"if bumped && h.ProducerEpoch == p.epoch && p.txnStart >= 0 {", "if bumped && h.ProducerEpoch == p.epoch && p.txnStart < -1 {"}},
	{Name: "producer-epoch-unchecked", Seed: 1035, File: producers, Swap: []string{"if h.ProducerEpoch < p.epoch {\n		return dup", "if h.ProducerEpoch < -1 {\n		return dup"}},
	{Name: "guard-ignored", Test: []string{"./core/commitlog", "TestGuardKIP890"}, File: guard, Swap: []string{"return v != nil && v.guard == g", "return v == nil || v.guard != (Guard{})"}},
	{Name: "last-stable-ignores-open", Seed: 1, File: producers, Swap: []string{"if len(t.open) > 0 {\n		first, ok", "if len(t.open) < 0 {\n		first, ok"}},
	{Name: "last-stable-ignores-watermark", Seed: 1, File: producers, Swap: []string{"if d.last >= hw && (", "if d.last >= hw && hw < 0 && ("}},
	{Name: "aborted-not-listed", Seed: 1, File: producers, Swap: []string{"m.Type == record.Abort\n", "m.Type == record.Abort && first < 0\n"}},

	{Name: "batch-around-start-refused", Seed: 2, Kind: string(Deletions), File: follow, Swap: []string{"straddles && errors.Is(", "straddles && first < 0 && errors.Is("}},
	{Name: "start-not-durable", Seed: 378, Kind: string(Deletions), File: retention, Swap: []string{"	if l.made {\n		if err := l.writeBounds", "	if l.made && offset < 0 {\n		if err := l.writeBounds"}},

	{Name: "reassignment-before-catch-up", Seed: 3, Kind: string(Moves), File: reassign, Swap: []string{"holds(p.ISR, target) {", "holds(target, target) {"}},
	{Name: "dirty-replica-elected-after-reassignment", Seed: 3, Kind: string(Moves), File: reassign, Swap: []string{"holds(p.ISR, target) {", "len(among(p.ISR, target)) > 0 {",
		"target, less(p.ISR, p.Removing), nil", "target, target, nil"}},
	{Name: "reassignment-drops-last-in-sync", Seed: 127, Kind: string(Moves), File: reassign, Swap: []string{"if len(isr) == 0 && len(less", "if len(isr) < 0 && len(less"}},
	{Name: "revert-keeps-added", Seed: 3, Kind: string(Moves), File: reassign, Swap: []string{"p.Origin(), isr, nil, nil", "p.Origin(), p.ISR, nil, nil"}},
	{Name: "origin-forgotten", Seed: 3, Kind: string(Moves), File: reassign, Swap: []string{"less(q.Replicas, p.Origin())", "less(q.Replicas, p.Replicas)"}},
	{Name: "drain-ignores-racks", Seed: 5, Kind: string(Moves), File: drain, Swap: []string{"cmp.Or(taken(x)-taken(y), ", "cmp.Or(0*taken(x), "}},
	{Name: "drain-to-drained", Seed: 7, Kind: string(Moves), File: drain, Swap: []string{"if !n.Fenced && !image.Draining(id) && !slices", "if !n.Fenced && !slices"}},
	{Name: "drained-leads-again", Seed: 11, Kind: string(Moves), File: rebalance, Swap: []string{"&& !image.Draining(first) ", ""}},
	{Name: "folder-of-moved-replica-kept", Seed: 23, Kind: string(Moves), File: opening, Swap: []string{"s.finishRemoval(folder(sl.state), sl)", "_ = s.finishRemoval"}},

	{Name: "refused-by-who-is-behind", Seed: 3, Kind: string(Topics), File: planner, Swap: []string{"if len(left) == 0 {", "if len(left) >= 0 {"}},
	{Name: "created-twice", Seed: 60, Kind: string(Topics), File: planner, Swap: []string{"!errors.As(err, &e) || e.made {", "!errors.As(err, &e) || e.made && e.Code == 0 {"}},

	{Name: "compaction-beyond-stable", Seed: 50, Kind: string(Cleaned), File: compaction, Swap: []string{"if next > stable || next > synced {", "if next > max(stable, next) || next > synced {"}},
	{Name: "compacted-segments-cut-meanwhile", Test: []string{"./core/commitlog", "TestCompactionOfSegmentsThatAreCut"}, File: swapping, Swap: []string{"if l.segs[first+i] != s {", "if l.segs[first+i] != s && i < 0 {"}},
	{Name: "swap-before-recovery-point", Seed: 13, Kind: string(Cleaned), File: swapping, Swap: []string{"if err := l.savePointHeld(true); err != nil {", "if err := error(nil); err != nil {",
		"if l.saved.synced.base < synced {", "if synced < 0 {"}},
	{Name: "retention-beyond-watermark", Seed: 68, Kind: string(Cleaned), File: retention, Swap: []string{"if end > hw || s.size == 0 {", "if s.size == 0 {"}},

	{Name: "offsets-of-aborted-applied", Seed: 2, File: groupState, Swap: []string{"		if commit {", "		if commit || g != nil {"}},
	{Name: "unstable-offset-told", Test: []string{"./core/group", "TestTransactionalOffsets"}, File: groupFetch, Swap: []string{"if requireStable && s.unstable(k) {", "if requireStable && s.unstable(k) && k.partition < 0 {"}},
	{Name: "offsets-without-lease", Test: []string{"./core/group", "TestOffsetFetchUnderLease"}, File: groupFetch, Swap: []string{"resp.ErrorCode == 0 && !c.lease.Leased() {", "resp.ErrorCode < 0 && !c.lease.Leased() {",
		"c.lease != nil && !c.lease.Leased() {", "c.lease != nil && c.node < 0 {"}},
	{Name: "transaction-offsets-at-once", Seed: 2, File: groupCommit, Swap: []string{"if w.producer != nil {\n					s.prepare", "if w.producer == nil {\n					s.prepare"}},
}

// The files that are patched.
const (
	keeper      = "core/statelog/keeper.go"
	txnAdd      = "core/txn/add.go"
	txnEnd      = "core/txn/end.go"
	txnInit     = "core/txn/init.go"
	txnState    = "core/txn/state.go"
	groupState  = "core/group/state.go"
	groupFetch  = "core/group/fetch.go"
	groupCommit = "core/group/commit.go"
	guard       = "core/commitlog/guard.go"
	follow      = "core/partition/follow.go"
	read        = "core/partition/read.go"
	state       = "core/partition/partition.go"
	watermark   = "core/partition/watermark.go"
	acks        = "core/partition/acks.go"
	isr         = "core/partition/isr.go"
	fetcherFile = "core/replica/fetcher.go"
	fence       = "core/metadata/fence.go"
	eligible    = "core/metadata/eligible.go"
	compaction  = "core/commitlog/compact.go"
	swapping    = "core/commitlog/swap.go"
	retention   = "core/commitlog/retention.go"
	planner     = "core/controller/controller.go"
	rebalance   = "core/controller/rebalance.go"
	drain       = "core/controller/drain.go"
	reassign    = "core/metadata/reassign.go"
	opening     = "core/replica/open.go"
	active      = "core/controller/active.go"
	recovery    = "core/commitlog/recover.go"
	truncation  = "core/commitlog/truncate.go"
	epochs      = "core/commitlog/epochs.go"
	producers   = "core/commitlog/producer.go"
)
