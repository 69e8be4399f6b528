package tabletest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

// Make makes the format under test.
type Make func(t testing.TB, o files.FormatOptions) files.Format

// Run checks a format with columns against what all of them promise.
func Run(t *testing.T, formatOf Make) {
	for name, test := range map[string]func(*testing.T, Make){
		"what is written is read": written, "what differs is found": differs, "records without a schema": lines,
		"what fits": fits, "delete without before": deleteWithoutBefore, "rejected records": rejected,
	} {
		t.Run(name, func(t *testing.T) { test(t, formatOf) })
	}
}

func written(t *testing.T, formatOf Make) {
	for _, codec := range []string{"auto", "snappy", "zstd", "gzip", "none"} {
		f := formatOf(t, files.FormatOptions{Compression: codec, Coordinates: codec == "zstd"})
		file := Encode(t, f, Changes()...)
		if found := Compare(t, f, file, Changes()...); len(found) != 0 {
			t.Errorf("%s: %q", codec, found)
		}
	}
}

func differs(t *testing.T, formatOf Make) {
	f := formatOf(t, files.FormatOptions{})
	file := Encode(t, f, Changes()...)
	other := Changes()
	other[1].Change.After.List[5] = schema.Float64Of(1)
	extra := Change(connectors.OpUpdate, 12, schema.Value{}, Row(9))
	late := Change(connectors.OpUpdate, 15, schema.Value{}, Row(9))
	for _, c := range []struct {
		name string
		want []*connectors.Record
		find []string
	}{
		{"a value", other, []string{"1: column f8 is "}}, // and its values, as the format has them
		{"a missing row", []*connectors.Record{Changes()[0], Changes()[1], extra, Changes()[2], Changes()[3], late},
			[]string{"-1: offset 12 is missing", "-1: offset 15 is missing"}},
		{"a row too many", []*connectors.Record{Changes()[0], Changes()[2]},
			[]string{"1: offset 11 is not in the log here, or twice in the file", "3: the log has no such record"}},
	} {
		got := Compare(t, f, file, c.want...)
		if !slices.EqualFunc(got, c.find, strings.HasPrefix) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := Compare(t, f, file[:len(file)/2], Changes()...); len(got) != 5 {
		t.Errorf("half a file: %q", got)
	}
}

func lines(t *testing.T, formatOf Make) {
	line := func(offset int64, value string) *connectors.Record {
		return &connectors.Record{Topic: "weblogs", Offset: offset, Timestamp: time.UnixMilli(5), RawValue: []byte(value),
			Headers: []connectors.Header{{Key: "host", Value: []byte("a")}, {Key: "offset", Value: []byte("12")}, {Key: "host", Value: []byte("b")}}}
	}
	rs := []*connectors.Record{line(0, "one"), line(1, "tw\xff"), line(7, "")}
	rs[2].Headers = nil
	for _, coordinates := range []bool{false, true} {
		f := formatOf(t, files.FormatOptions{Coordinates: coordinates})
		if found := Compare(t, f, Encode(t, f, rs...), rs...); len(found) != 0 {
			t.Errorf("%q", found)
		}
	}
}

// A schema change and a truncate begin a new file; an equal schema at another address does not.
func fits(t *testing.T, formatOf Make) {
	f := formatOf(t, files.FormatOptions{})
	e, err := f.NewEncoder(io.Discard, Changes()[0])
	if err != nil {
		t.Fatal(err)
	}
	clone := *Everything
	r := Changes()[1]
	r.Change.Row = &clone
	if !f.Fits(e, r) {
		t.Error("an equal schema does not fit")
	}
	clone2 := *Everything
	clone2.Fields = clone2.Fields[:3]
	r = Changes()[1]
	r.Change.Row = &clone2
	if f.Fits(e, r) {
		t.Error("another schema fits")
	}
	truncate := Change(connectors.OpTruncate, 20, schema.Value{}, schema.Value{})
	if f.Fits(e, truncate) {
		t.Error("a truncate has no key and cannot fit where the key must not be null")
	}
	if f.Fits(e, &connectors.Record{RawValue: []byte("x")}) {
		t.Error("a line fits among rows")
	}
	if d, ok := e.(files.Discarder); ok {
		d.Discard()
	}
	rs := []*connectors.Record{truncate, Change(connectors.OpCreate, 21, schema.Value{}, Full(1))}
	if found := Compare(t, f, Encode(t, f, rs...), rs...); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

// A delete of which only the key is known (REPLICA IDENTITY NOTHING gives no before).
func deleteWithoutBefore(t *testing.T, formatOf Make) {
	f := formatOf(t, files.FormatOptions{})
	r := Change(connectors.OpDelete, 3, schema.Value{}, schema.Value{})
	r.Key.Value = schema.StructOf(schema.Int64Of(42))
	like := Change(connectors.OpDelete, 3, Row(42), schema.Value{})
	if found := Compare(t, f, Encode(t, f, r), like); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

// A record that cannot be written leaves nothing behind, and is missing.
func rejected(t *testing.T, formatOf Make) {
	f := formatOf(t, files.FormatOptions{})
	var buf bytes.Buffer
	rs := Changes()
	e, err := f.NewEncoder(&buf, rs[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := Change(connectors.OpCreate, 12, schema.Value{}, Full(3))
	bad.Change.After.List[14] = schema.BytesOf(Twos(123456)) // six digits in numeric(5,2)
	worse := Change(connectors.OpCreate, 12, schema.Value{}, Full(3))
	worse.Change.After.List[23] = schema.ArrayOf(schema.ArrayOf(schema.StringOf("no number")))
	for i, r := range []*connectors.Record{rs[0], bad, rs[1], worse, rs[2]} {
		err := e.Write(r)
		var re *files.RecordError
		if (r == bad || r == worse) != errors.As(err, &re) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if found := Compare(t, f, buf.Bytes(), rs[0], bad, rs[1], rs[2]); len(found) != 1 || !strings.Contains(found[0], "-1: the sink cannot take offset 12: ") {
		t.Errorf("%q", found)
	}
}
