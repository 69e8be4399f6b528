package exactly

import "github.com/forebayhub/forebay/tests/mutation"

// Mutations are guards of the runtime, each taken out by a patch. DESIGN.md tells what each is.
var Mutations = []mutation.Mutation{
	{Name: "acknowledged-before-commit", Seed: 1, File: appendFile, Swap: []string{
		"	if _, err := t.out.Commit(ctx); err != nil {\n		return err\n	}\n	t.lastEnd = time.Now()\n",
		"	if err := st.Committed(ctx, t.dirty); err != nil {\n		return err\n	}\n	if _, err := t.out.Commit(ctx); err != nil {\n		return err\n	}\n	t.lastEnd = time.Now()\n"}},
	{Name: "commit-error-ignored", Seed: 1, File: appendFile, Swap: []string{
		"if _, err := t.out.Commit(ctx); err != nil {", "if _, err := t.out.Commit(ctx); err != nil && ctx.Err() != nil {"}},
	{Name: "positions-after-records", Seed: 3, File: appendFile, Swap: []string{
		"	for key, p := range t.dirty {\n		t.out.Append(", "	if _, err := t.out.Commit(ctx); err != nil {\n		return err\n	}\n	if err := t.out.Begin(); err != nil {\n		return err\n	}\n	for key, p := range t.dirty {\n		t.out.Append("}},
	{Name: "uncovered-tail-committed", Seed: 2, File: sourceFile, Swap: []string{
		"	if t.open && !t.unmarked {\n		if err := t.commit(ctx, st); err != nil {\n			return err\n		}\n	}\n	if errors.Is", "	if t.open {\n		if err := t.commit(ctx, st); err != nil {\n			return err\n		}\n	}\n	if errors.Is"}},
	{Name: "uncovered-records-committed", Seed: 25, File: sourceFile, Swap: []string{
		"if t.open && !t.unmarked && (t.out", "if t.open && (t.out"}},
	{Name: "closed-while-committing", Seed: 1, File: sourceFile, Swap: []string{"			<-written // Committed is not called after Close\n", ""}},
	{Name: "id-of-each-host", Seed: 20, File: sourceFile, Swap: []string{
		"o.Log.NewAppender(ctx, o.Scope.TransactionalID(), most)", `o.Log.NewAppender(ctx, o.Scope.TransactionalID()+"."+o.Host, most)`}},
	{Name: "positions-up-to-last-stable", Seed: 6, File: positionFile, Swap: []string{"at.Start, barrier+1, r.entry", "at.Start, min(at.LSO, barrier+1), r.entry"}},
	{Name: "aborted-positions-applied", Seed: 5, File: txnsFile, Swap: []string{"	if e.Commit {\n", "	if e.Commit || len(e.Key) > 0 {\n"}},
	{Name: "lease-not-renewed", Seed: 9, File: sinkFile, Swap: []string{"	if len(tokens) > 0 {\n		// Invariant 7", "	if len(tokens) > 1<<20 {\n		// Invariant 7"}},
	{Name: "lease-of-each-host", Seed: 9, File: sinkFile, Swap: []string{
		"o.Log.NewAppender(ctx, scope.TransactionalID(), 0)", `o.Log.NewAppender(ctx, scope.TransactionalID()+"."+o.Env.Host, 0)`}},
	{Name: "target-not-asked", Seed: 1, File: assignFile, Swap: []string{"		from[a.TopicPartition] = at\n", "		from[a.TopicPartition] = max(at, a.EndOffset)\n"}},
	{Name: "resumes-at-start", Seed: 1, File: assignFile, Swap: []string{"		from[a.TopicPartition] = at\n", "		from[a.TopicPartition] = a.StartOffset\n"}},
	{Name: "sink-goes-on-after-error", Seed: 23, File: sinkFile, Swap: []string{"return fmt.Errorf(\"commit %s-%d up to offset %d: %w\", token.Topic, token.Partition, token.Next, err)", "continue"}},
	{Name: "reads-uncommitted", Seed: 1, File: pollerFile, Swap: []string{"kgo.ReadCommitted()", "kgo.ReadUncommitted()"}},
	{Name: "advanced-before-written", Seed: 1, File: sinkFile, Swap: []string{"		for len(run.Records) > 0 {\n", "		if a, ok := t.sink.(connectors.Advancer); ok && t.parts[run.TopicPartition] != nil {\n			a.Advance(run.TopicPartition, run.Next)\n		}\n		for len(run.Records) > 0 {\n"}},
	{Name: "failed-record-committed", Seed: 1, File: appenderFile, Swap: []string{"	if a.mu.err != nil {\n		return fmt.Errorf(\"append in", "	if a.mu.err != nil && a.count < 0 {\n		return fmt.Errorf(\"append in"}},
	{Name: "abandoned-transaction-committed", Seed: 2, File: appenderFile, Swap: []string{
		"		if err := a.cl.AbortBufferedRecords(ctx); err == nil {\n			_ = a.cl.EndTransaction(ctx, kgo.TryAbort)", "		if err := a.cl.Flush(ctx); err == nil {\n			_ = a.cl.EndTransaction(ctx, kgo.TryCommit)"}},
	{Name: "epoch-never-rises", Seed: 1, File: sinkFile, Swap: []string{"Epoch: epoch, Decode", "Epoch: epoch * 0, Decode"}},
	{Name: "key-goes-on-behind-a-letter", Seed: 1, File: deadFile, Swap: []string{"waitsFor(key || whole,", "waitsFor(d.limit < 0,"}},
	{Name: "letters-unwritten", Seed: 1, File: deadFile, Swap: []string{"t.record(t.dead.fresh, nil); werr != nil", "t.record(t.dead.fresh[:0], nil); werr != nil"}},
	{Name: "source-goes-on-behind-a-letter", Seed: 18, File: unappendedFile, Swap: []string{"waitsFor(d.letters.Blocks(lane, o.hash),", "waitsFor(d.limit < 0,"}},
	{Name: "kept-records-unwritten", Seed: 7, File: sourceLettersFile, Swap: []string{
		"	d.put(a, change{place: e.Place, entry: &e})\n}\n\nfunc (d *Letters) piece", "	d.apply(change{place: e.Place, entry: &e})\n}\n\nfunc (d *Letters) piece"}},
	{Name: "played-again-and-kept", Seed: 7, File: unappendedFile, Swap: []string{"				d.letters.Settle(t.out, e.Place)\n				continue", "				continue"}},
	{Name: "letters-up-to-last-stable", Seed: 12, File: lettersFile, Swap: []string{"d.scan(ctx, at.Start, barrier+1); err", "d.scan(ctx, at.Start, min(at.LSO, barrier+1)); err"}},
}

// The files that are patched.
const (
	appendFile        = "runtime/task/append.go"
	sourceFile        = "runtime/task/source.go"
	deadFile          = "runtime/task/dead.go"
	lettersFile       = "runtime/dlq/letters.go"
	unappendedFile    = "runtime/task/unappended.go"
	sourceLettersFile = "runtime/dlq/source.go"
	sinkFile          = "runtime/task/sink.go"
	assignFile        = "runtime/task/assign.go"
	positionFile      = "runtime/position/position.go"
	txnsFile          = "runtime/hublog/transactions.go"
	pollerFile        = "runtime/hublog/poller.go"
	appenderFile      = "runtime/hublog/appender.go"
)
