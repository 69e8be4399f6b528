package audit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter"
)

var (
	keyS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}
	rowS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}, {Name: "text", Schema: &schema.Schema{Kind: schema.String, Optional: true}},
	}}
	sourceS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "lsn", Schema: &schema.Schema{Kind: schema.Int64}}}}
)

var big = strings.Repeat("x", 4000)

// change is a record of the log, as the decoder leaves it.
func change(op connectors.Op, id, lsn int64, text schema.Value) connectors.Record {
	key := schema.StructOf(schema.Int64Of(id))
	r := connectors.Record{Topic: "t", Offset: lsn, RawKey: fmt.Appendf(nil, `{"id":%d}`, id), Key: connectors.Datum{Schema: keyS, Value: key},
		Change: &connectors.Change{Op: op, Row: rowS, Source: connectors.Datum{Schema: sourceS, Value: schema.StructOf(schema.Int64Of(lsn))}}}
	row := schema.StructOf(schema.Int64Of(id), text)
	if op == connectors.OpDelete {
		r.Change.Before = row
	} else {
		r.Change.After = row
	}
	return r
}

// row is a row of the source: no raw key, no place in the stream.
func row(id int64, text string) connectors.Record {
	r := change(connectors.OpRead, id, 0, schema.StringOf(text))
	r.RawKey = nil
	return r
}

// with is r with one more header.
func with(r connectors.Record, key string) connectors.Record {
	r.Headers = append(r.Headers, connectors.Header{Key: key, Value: []byte("{}")})
	return r
}

// line is a line of a file: name is the path, or file and path with a colon between.
func line(name string, offset int, text string) connectors.Record {
	file, path, two := strings.Cut(name, ":")
	if !two {
		file, path = "id of "+name, name
	}
	return connectors.Record{Topic: "logs", RawValue: []byte(text), Headers: []connectors.Header{
		{Key: "host", Value: []byte("h")}, {Key: "path", Value: []byte(path)}, {Key: "offset", Value: fmt.Append(nil, offset)}, {Key: "file", Value: []byte(file)}}}
}

func TestReplay(t *testing.T) {
	text := schema.StringOf
	tombstone := connectors.Record{Topic: "t", RawKey: []byte(`{"id":1}`)}
	truncate := connectors.Record{Topic: "t", Change: &connectors.Change{Op: connectors.OpTruncate, Row: rowS}}
	for name, c := range map[string]struct {
		log    []connectors.Record // before the point for sure
		window []connectors.Record
		source []connectors.Record
		want   Count
	}{
		"the same": {
			log:    []connectors.Record{change('r', 1, 1, text("a")), change('c', 2, 2, text("b")), change('u', 2, 3, text("c"))},
			source: []connectors.Record{row(1, "a"), row(2, "c")}, want: Count{Agreed: 2},
		},
		"deleted": {
			log: []connectors.Record{change('c', 1, 1, text("a")), change('d', 1, 2, text("a")), tombstone}, want: Count{},
		},
		"truncated": {
			log:    []connectors.Record{change('c', 1, 1, text("a")), truncate, change('c', 1, 3, text("b"))},
			source: []connectors.Record{row(1, "b")}, want: Count{Agreed: 1},
		},
		"unchanged TOAST": {
			log:    []connectors.Record{change('c', 1, 1, text(big)), change('u', 1, 2, schema.Missing)},
			source: []connectors.Record{row(1, big)}, want: Count{Agreed: 1},
		},
		"unchanged TOAST under another key": {
			log: []connectors.Record{change('c', 1, 1, text(big)), with(change('d', 1, 2, schema.Value{}), headerNewKey), tombstone,
				with(change('c', 2, 3, schema.Missing), headerOldKey), change('c', 1, 4, text("again"))},
			source: []connectors.Record{row(2, big), row(1, "again")}, want: Count{Agreed: 2},
		},
		"missing":        {log: []connectors.Record{change('c', 1, 1, text("a"))}, source: []connectors.Record{row(1, "a"), row(2, "b")}, want: Count{Agreed: 1, Missing: 1}},
		"different":      {log: []connectors.Record{change('c', 1, 1, text("a"))}, source: []connectors.Record{row(1, "b")}, want: Count{Different: 1}},
		"a lost delete":  {log: []connectors.Record{change('c', 1, 1, text("a"))}, want: Count{Different: 1}},
		"a change twice": {log: []connectors.Record{change('c', 1, 1, text("a")), change('c', 1, 1, text("a"))}, source: []connectors.Record{row(1, "a")}, want: Count{Agreed: 1, Doubled: 1}},
		"a snapshot's row twice": {
			log:    []connectors.Record{change('r', 1, 1, text("a")), change('r', 1, 2, text("a"))},
			source: []connectors.Record{row(1, "a")}, want: Count{Agreed: 1, Doubled: 1},
		},
		"changes after the point": {
			log:    []connectors.Record{change('c', 1, 1, text("a")), change('c', 2, 2, text("b"))},
			window: []connectors.Record{change('u', 1, 3, text("z")), change('d', 2, 4, text("b")), change('c', 3, 5, text("n"))},
			source: []connectors.Record{row(1, "a"), row(2, "b")}, want: Count{Agreed: 2},
		},
		"changes before the point, in the window": {
			log:    []connectors.Record{change('c', 1, 1, text("a")), change('c', 2, 2, text("b"))},
			window: []connectors.Record{change('u', 1, 3, text("z")), change('d', 2, 4, text("b")), change('c', 3, 5, text("n"))},
			source: []connectors.Record{row(1, "z"), row(3, "n")}, want: Count{Agreed: 2},
		},
		"lines of a renamed file": {
			log:    []connectors.Record{line("1:a", 0, "x"), line("1:a", 2, "y"), line("2:a", 0, "x")},
			source: []connectors.Record{line("1:a.1", 0, "x"), line("1:a.1", 2, "y"), line("2:a", 0, "x")}, want: Count{Agreed: 3},
		},
		"generations of one path, in any order": {
			log:    []connectors.Record{line("1:a", 0, "x"), line("2:a", 0, "x"), line("1:a", 2, "y"), line("2:a", 2, "y"), line("3:a", 0, "z")},
			source: []connectors.Record{line("3:a", 0, "z"), line("2:a.1", 0, "x"), line("2:a.1", 2, "y")}, want: Count{Agreed: 3, Gone: 2},
		},
		"a line missing although another file has it": {
			log:    []connectors.Record{line("1:a", 0, "x")},
			source: []connectors.Record{line("1:a.1", 0, "x"), line("2:a", 0, "x")}, want: Count{Agreed: 1, Missing: 1},
		},
		"another line at the same place": {
			log:    []connectors.Record{line("a", 0, "x")},
			source: []connectors.Record{line("a", 0, "y")}, want: Count{Different: 1},
		},
		"a line missing, one doubled, one of a file that is gone": {
			log:    []connectors.Record{line("a", 0, "x"), line("a", 2, "y"), line("a", 2, "y"), line("old", 0, "o")},
			source: []connectors.Record{line("a", 0, "x"), line("a", 2, "y"), line("a", 4, "z")}, want: Count{Agreed: 2, Missing: 1, Doubled: 1, Gone: 1},
		},
		"lines after the point are not gone": {
			log: []connectors.Record{line("a", 0, "x")}, window: []connectors.Record{line("a", 2, "y"), line("a", 4, "z")},
			source: []connectors.Record{line("a", 0, "x"), line("a", 2, "y")}, want: Count{Agreed: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := &Count{limit: 10}
			r := newReplay(got, converter.Format{})
			for i := range c.log {
				r.record(&c.log[i], true)
			}
			for i := range c.window {
				r.record(&c.window[i], false)
			}
			for _, s := range c.source {
				if err := r.row(s); err != nil {
					t.Fatal(err)
				}
			}
			r.finish()
			if got.Agreed != c.want.Agreed || got.Missing != c.want.Missing || got.Doubled != c.want.Doubled || got.Different != c.want.Different || got.Gone != c.want.Gone {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}

func TestPrintEndsWithTheVerdict(t *testing.T) {
	c := &Count{Of: "shop.public.orders", Agreed: 3, limit: 1}
	c.add(connectors.Difference{Kind: connectors.MissingRecord, Where: "here", What: "this"})
	c.add(connectors.Difference{Kind: connectors.DoubledRecord, Where: "there", What: "that"})
	res := &Result{Sources: []*Count{c}}
	var b strings.Builder
	if err := res.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"missing: here: this", "… and 1 more", "audit: 1 missing, 1 doubled, 0 different\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if res.Clean() {
		t.Error("not clean")
	}
}
