package parquet

import (
	"bytes"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table/tabletest"
)

func makeFormat(t testing.TB, o files.FormatOptions) (files.Format, *Budget) {
	t.Helper()
	b := NewBudget(64 << 20)
	f, err := NewWith(o, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.Used() != 0 {
			t.Errorf("%d bytes of the budget were not given back", b.Used())
		}
	})
	return f, b
}

func TestColumnsOfAChange(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	file := tabletest.Encode(t, f, tabletest.Changes()...)
	p, err := pq.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	want := `message record {
	required int64 id (INT(64,true));
	optional boolean b;
	optional int32 i2 (INT(16,true));
	optional int32 i4 (INT(32,true));
	optional float f4;
	optional double f8;
	optional binary txt (STRING);
	optional binary raw;
	optional int32 d (DATE);
	optional binary t6 (STRING);
	optional binary t3 (STRING);
	optional int64 ts3 (TIMESTAMP(isAdjustedToUTC=false,unit=MILLIS));
	optional int64 ts6 (TIMESTAMP(isAdjustedToUTC=false,unit=MICROS));
	optional int64 tz (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	optional int32 n5 (DECIMAL(5,2));
	optional int64 n18 (DECIMAL(18,6));
	optional fixed_len_byte_array(16) n38 (DECIMAL(38,10));
	optional binary n60 (STRING);
	optional binary nvar (STRING);
	optional binary js (JSON);
	optional binary u (STRING);
	optional group a (LIST) {
		repeated group list {
			optional int32 element (INT(32,true));
		}
	}
	optional group m (MAP) {
		repeated group key_value {
			required binary key (STRING);
			optional binary value (STRING);
		}
	}
	optional group nn (LIST) {
		repeated group list {
			optional group element (LIST) {
				repeated group list {
					optional int32 element (INT(32,true));
				}
			}
		}
	}
	optional group p {
		optional double x;
		optional double y;
	}
	required binary _op (STRING);
	optional int64 _ts (TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS));
	required int64 _offset (INT(64,true));
	optional group _unchanged (LIST) {
		repeated group list {
			optional binary element (STRING);
		}
	}
}`
	if got := p.Schema().String(); got != want {
		t.Errorf("the file's columns are\n%s", got)
	}
	if v, _ := p.Lookup("forebay.format"); v != "1" {
		t.Errorf("the format's version is %q", v)
	}
}

// Open files share one budget: when it is spent, row groups get smaller and the memory stays.
func TestBudgetBoundsMemory(t *testing.T) {
	b := NewBudget(4 << 20)
	f, err := NewWith(files.FormatOptions{Compression: "none"}, b)
	if err != nil {
		t.Fatal(err)
	}
	line := func(i int64) *connectors.Record {
		return &connectors.Record{Offset: i, RawValue: bytes.Repeat([]byte{byte('a' + i%26)}, 1000)}
	}
	encs, bufs := make([]files.Encoder, 12), make([]bytes.Buffer, 12)
	for i := range encs {
		if encs[i], err = f.NewEncoder(&bufs[i], line(0)); err != nil {
			t.Fatal(err)
		}
	}
	most := int64(0)
	for i := range int64(2000) {
		for _, e := range encs {
			if err := e.Write(line(i)); err != nil {
				t.Fatal(err)
			}
		}
		most = max(most, b.Used())
	}
	if limit := int64(4<<20 + 12*(minRowGroup+maxBatchBytes)); most > limit {
		t.Errorf("open files held %d bytes, more than %d", most, limit)
	}
	for i, e := range encs {
		if i == 0 {
			e.(files.Discarder).Discard()
			continue
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes were not given back", b.Used())
	}
}

func TestFormat(t *testing.T) {
	tabletest.Run(t, func(t testing.TB, o files.FormatOptions) files.Format {
		f, _ := makeFormat(t, o)
		return f
	})
}
