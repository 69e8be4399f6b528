package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/jackc/pgx/v5/pgconn"
)

// A row that does not fit into memory ends the source with its table's name, and takes none; it is in the
// snapshot or in the stream. One of a table that is not ours is passed over.
func TestLargeRow(t *testing.T) {
	ctx := context.Background()
	large := "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 65536) i" // 2 MiB
	for _, where := range []string{"snapshot", "stream"} {
		t.Run(where, func(t *testing.T) {
			url := testURL(t)
			c := dial(t, url)
			sql(t, c, "CREATE TABLE a(id int PRIMARY KEY, v text)", "CREATE TABLE z(id int PRIMARY KEY, v text)", "INSERT INTO a SELECT i, 'x' FROM generate_series(1, 5) i")
			src := configure(t, url, []string{"public.a"}, map[string]any{"max_row": spec.ByteSize(64 << 10)})
			l := newLogbook(t, src, func(connectors.Record) {})
			if where == "snapshot" {
				sql(t, c, "INSERT INTO a VALUES (6, ("+large+"))")
				if err := l.open(ctx); err != nil {
					t.Fatal(err)
				}
			} else {
				sql(t, c, "CREATE PUBLICATION "+src.cfg.publication+" FOR TABLE a, z")
				l.catchUp(ctx, c)
				sql(t, c, "INSERT INTO a VALUES (7, 'y')", "INSERT INTO z VALUES (1, ("+large+")), (2, 'x')", "INSERT INTO a VALUES (8, 'y')")
				l.catchUp(ctx, c)
				sql(t, c, "INSERT INTO a VALUES (6, ("+large+"))")
			}
			defer l.close()
			b := connectors.NewBatch(l.batch)
			var err error
			var w *wire
			for err == nil {
				if tk := l.task.(*task); tk.stream != nil {
					w = tk.stream.w
				} else if tk.current != nil {
					w = tk.current.w
				}
				err = l.read(ctx, b, nil)
			}
			if !connectors.IsFatal(err) || !strings.Contains(err.Error(), "public.a") || !strings.Contains(err.Error(), "max_row is 64KiB") {
				t.Errorf("%v", err)
			}
			if w != nil && len(w.buf) > 1<<20 {
				t.Errorf("a buffer of %d bytes", len(w.buf))
			}
		})
	}
}

// An array takes room for its elements, not for the commas in them, and a batch lets go of it.
func TestArrayOfCommas(t *testing.T) {
	b := connectors.NewBatch(1 << 20)
	text := func(_ *connectors.Batch, t []byte) (schema.Value, error) { return schema.TextOf(t), nil }
	v, err := decodeArray(b, []byte(`{"`+strings.Repeat(",", 1e5)+`\",",NULL}`), text, ',')
	if err != nil || len(v.List) != 2 || cap(v.List) > 2 {
		t.Errorf("%d elements, room for %d: %v", len(v.List), cap(v.List), err)
	}
}

func TestServerLimit(t *testing.T) {
	for _, e := range []*pgconn.PgError{{Code: "54000", Message: "out of memory"}, {Code: "XX000", Message: "invalid memory alloc request size 1073741824"}} {
		if err := serverLimit(fmt.Errorf("read: %w", e), "public.a"); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "public.a") {
			t.Errorf("%v", err)
		}
	}
	if err := serverLimit(&pgconn.PgError{Code: "XX000", Message: "cache lookup failed"}, "public.a"); connectors.IsFatal(err) {
		t.Errorf("%v", err)
	}
}
