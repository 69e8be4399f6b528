package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// fillLost reads what a key change left out, where nobody downstream may have it.
//
// A row that moves from the range of a later run to that of an earlier one was
// seen by neither: the later run saw it gone, the earlier one had passed. The
// stream brings it as a create, without its unchanged TOAST columns, and no
// earlier record of this row exists. So its present values are read from the
// table. They may be newer than the event; then the stream brings that newer
// change later too, so that the replay ends where the table is.
//
// When the row is not there under this key as the transaction left it, it may have
// moved on, and what was read may be another row's. Its next move has been
// committed by then, and is looked at in the same way: the table's coverage lasts
// until the stream has passed everything that was committed when we looked, in the
// table's position too. So every move is looked at that the coverage spans,
// whatever became of the one before it: who is killed between the two knows nothing of it.
func (t *task) fillLost(ctx context.Context, b *connectors.Batch, st *streamTable, after []schema.Value, key [][]byte) error {
	tt := st.tracked
	if t.stream.tx.commit > tt.cover.horizon {
		return nil
	}
	var missing []int
	for i := range after {
		if after[i].Kind == schema.Unavailable {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	values := make([]string, len(key))
	for i, k := range key {
		values[i] = string(k)
	}
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	info, err := t.loadTable(ctx, c, st.name)
	if err != nil || info == nil {
		return err
	}
	order := keyOrder{}
	for _, i := range st.keyCols {
		col := info.column(st.cols[i].name)
		if col == nil {
			return nil
		}
		order.cols = append(order.cols, *col)
	}
	names := []string{"xmin"}
	missing = slices.DeleteFunc(missing, func(m int) bool {
		was, is := &st.cols[m], info.column(st.cols[m].name)
		if is == nil || is.typ != was.typ || is.typmod != was.typmod {
			return true // dropped or rewritten since: the value of that time is nowhere
		}
		names = append(names, quoteIdent(is.name))
		return false
	})
	rows, err := query(ctx, c, "SELECT "+strings.Join(names, ",")+" FROM "+info.from()+" WHERE "+order.equal(order.columns(), order.literals(values)))
	if err != nil {
		return fmt.Errorf("read the unsent columns of a row of %s: %w", st.name, err)
	}
	if len(rows) == 0 || string(rows[0][0]) != strconv.FormatUint(uint64(t.stream.tx.xid), 10) {
		horizon, err := insertLSN(ctx, c)
		if err != nil {
			return err
		}
		t.extend(tt, horizon)
	}
	if len(rows) == 0 {
		return nil
	}
	for i, m := range missing {
		after[m] = schema.Value{}
		text := rows[0][1+i]
		if text == nil {
			continue
		}
		v, err := st.cols[m].decode(b, b.Copy(text))
		if err != nil {
			return valueError(st.name, st.cols[m].name, err)
		}
		after[m] = v
	}
	return nil
}

// extend makes a table's coverage last until the stream has passed horizon. The next mark of the stream makes that durable.
func (t *task) extend(tt *trackedTable, horizon LSN) {
	tt.cover.horizon, t.least = max(tt.cover.horizon, horizon), 0
	tt.pos.Runs[len(tt.pos.Runs)-1].Horizon = LSNText(tt.cover.horizon)
	if !slices.Contains(t.extended, tt) {
		t.extended = append(t.extended, tt)
	}
}
