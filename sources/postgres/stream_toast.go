package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// maxLost bounds how many rows a table remembers whose unsent columns are still to be read.
const maxLost = 100_000

// fillLost reads what a key change left out, when nobody downstream can have it.
//
// A row that moves from the range of a later run to that of an earlier one was
// seen by neither: the later run saw it gone, the earlier one had passed. The
// stream brings it as a create, without its unchanged TOAST columns, and no
// earlier record of this row exists. So its present values are read from the
// table. They may be newer than the event; then the stream brings that newer
// change later too, so that the replay ends where the table is. A row that is not
// there any more under this key was moved again or deleted, and is looked for
// when that event comes.
func (t *task) fillLost(ctx context.Context, b *connectors.Batch, st *streamTable, after []schema.Value, key [][]byte, oldID, newID string, oldDropped bool) error {
	tt := st.tracked
	if !oldDropped && !tt.lost[oldID] {
		return nil
	}
	delete(tt.lost, oldID)
	var missing []int
	for i := range after {
		if after[i].Kind == schema.Unavailable {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, len(missing))
	for i, m := range missing {
		names[i] = quoteIdent(st.cols[m].name)
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
	for _, m := range missing {
		if info.column(st.cols[m].name) == nil {
			return nil // dropped since; nobody will ask for it
		}
	}
	rows, err := query(ctx, c, "SELECT "+strings.Join(names, ",")+" FROM "+st.name.quoted()+" WHERE "+order.equal(order.columns(), order.literals(values)))
	if err != nil {
		return fmt.Errorf("read the unsent columns of a row of %s: %w", st.name, err)
	}
	if len(rows) == 0 {
		if tt.lost == nil {
			tt.lost = map[string]bool{}
		}
		if len(tt.lost) < maxLost {
			tt.lost[newID] = true
		}
		return nil
	}
	for i, m := range missing {
		after[m] = schema.Value{}
		if rows[0][i] == nil {
			continue
		}
		v, err := st.cols[m].decode(b, b.Copy(rows[0][i]))
		if err != nil {
			return valueError(st.name, st.cols[m].name, err)
		}
		after[m] = v
	}
	return nil
}
