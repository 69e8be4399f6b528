package postgres

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

func FuzzPgoutput(f *testing.F) {
	f.Add([]byte("B\x00\x00\x00\x00\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x02\xff"))
	f.Add([]byte("R\x00\x00\x40\x01public\x00o\x00d\x00\x02\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff\x00v\x00\x00\x00\x00\x19\xff\xff\xff\xff"))
	f.Add([]byte("I\x00\x00\x40\x01N\x00\x02t\x00\x00\x00\x011n"))
	f.Add([]byte("U\x00\x00\x40\x01K\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012u"))
	f.Add([]byte("D\x00\x00\x40\x01O\x00\x01t\x00\x00\x00\x011"))
	f.Add([]byte("T\x00\x00\x00\x01\x01\x00\x00\x40\x01"))
	f.Add([]byte("C\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03"))
	f.Add([]byte("O\x00\x00\x00\x00\x00\x00\x00\x01name\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		kind, p := p[0], p[1:]
		switch kind {
		case 'B':
			_, _ = decodeBegin(p)
		case 'C':
			_, _ = decodeCommit(p)
		case 'O':
			_, _, _ = decodeOrigin(p)
		case 'R':
			if r, err := decodeRelation(p); err == nil && 10*len(r.cols) > len(p) {
				t.Error("more columns than bytes")
			}
		case 'T':
			var tr truncate
			_ = decodeTruncate(p, &tr)
		case 'I', 'U', 'D':
			var c change
			if decodeChange(kind, p, &c) != nil {
				return
			}
			n := 0
			for _, d := range append(c.old, c.new...) {
				n += len(d.text)
			}
			if n > len(p) || kind == 'D' && len(c.new) > 0 {
				t.Error("more text than bytes")
			}
		}
	})
}

func FuzzCopyRow(f *testing.F) {
	f.Add([]byte("1\ta\\tb\\\\\t\\N\n"), 3)
	f.Add([]byte("\\"), 1)
	f.Add([]byte("\t\t"), 3)
	f.Fuzz(func(t *testing.T, line []byte, n int) {
		if n < 0 || n > 100 {
			return
		}
		size := len(line)
		cols := make([][]byte, n)
		if splitCopyRow(line, cols) != nil {
			return
		}
		sum := 0
		for _, c := range cols {
			sum += len(c)
		}
		if sum > size {
			t.Error("more text than the line has")
		}
	})
}

// FuzzCopyEscape: what COPY escapes comes back as it was.
func FuzzCopyEscape(f *testing.F) {
	f.Add([]byte("a\tb\nc\\d\r\b\f\v"), []byte(`\N`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		escape := func(p []byte) []byte {
			var out []byte
			for _, c := range p {
				if i := bytes.IndexByte([]byte("\b\f\n\r\t\v\\"), c); i >= 0 {
					out = append(out, '\\', `bfnrtv\`[i])
				} else {
					out = append(out, c)
				}
			}
			return out
		}
		line := append(append(escape(a), '\t'), escape(b)...)
		line = append(append(line, "\t\\N"...), '\n')
		cols := make([][]byte, 3)
		if err := splitCopyRow(line, cols); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(cols[0], a) || !bytes.Equal(cols[1], b) || cols[1] == nil || cols[2] != nil {
			t.Errorf("%q %q %q", cols[0], cols[1], cols[2])
		}
	})
}

// FuzzTypes feeds every decoder; none may panic, and a value has its schema's kind.
func FuzzTypes(f *testing.F) {
	oids := []uint32{oidBool, oidInt2, oidInt4, oidInt8, oidFloat4, oidFloat8, oidNumeric, oidMoney, oidBytea, oidBit, oidVarbit, oidDate,
		oidTime, oidTimestamp, oidTimestamptz, oidTimetz, oidInterval, oidPoint, oidText, 1007, 1009, 1231, 1185, 1001, 1561}
	seeds := []string{"t", "-1", "1.5", "NaN", "-$1,234.50", `\x00ff`, "0101", "2024-02-29", "0044-03-15 BC", "13:51:30.123", "2016-11-04 13:51:30.12",
		"2016-11-04 13:51:30.12+00", "13:51:30+02:30:15", "P1Y2M-3DT4H5M-6.7S", "(1,2)", `{1,NULL,"a\"b",{2}}`, "infinity", `"a"=>"1", "b"=>NULL`, "[0:1]={1,2}", ""}
	for i := range oids {
		for _, s := range seeds {
			f.Add(byte(i), int32(-1), []byte(s))
		}
		f.Add(byte(i), int32(3), []byte("1"))
	}
	f.Fuzz(func(t *testing.T, which byte, typmod int32, in []byte) {
		if len(in) > 4096 {
			return
		}
		b := connectors.NewBatch(1 << 20)
		c := codec{schema: &schema.Schema{Kind: schema.String}, decode: decodeHstore}
		if int(which) < len(oids) {
			c, _ = builtinCodec(oids[which], typmod)
		}
		v, err := c.decode(b, b.Copy(append([]byte{}, in...)))
		if err == nil && v.Kind != c.schema.Kind && !v.IsNull() {
			t.Errorf("%v for a schema of %v", v.Kind, c.schema.Kind)
		}
	})
}

func FuzzSnapshotText(f *testing.F) {
	f.Add("10:20:11,15", uint32(12))
	f.Add("4967:4966:", uint32(1))
	f.Fuzz(func(t *testing.T, s string, xid uint32) {
		if sn, err := parseSnapshot(s); err == nil {
			_ = sn.saw(xid)
		}
	})
}

func FuzzSwitchPoint(f *testing.F) {
	f.Add("1\t0/3000148\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2026-11-30", uint32(2))
	f.Fuzz(func(t *testing.T, history string, timeline uint32) {
		at, err := switchPoint(history, timeline)
		said := func(field string) bool { l, err := ParseLSN(field); return err == nil && l == at }
		if err == nil && at != 0 && !slices.ContainsFunc(strings.Fields(history), said) {
			t.Errorf("%s is not in %q", at, history)
		}
	})
}

func TestSaw(t *testing.T) {
	const epoch = uint64(3) << 32
	sn := snapshot{xmin: epoch + 5, xmax: epoch + 10, xip: []uint64{epoch + 7}}
	for xid, want := range map[uint32]bool{4: true, 5: true, 6: true, 7: false, 9: true, 10: false, 11: false, 1 << 30: false,
		0xfffffff0: true} { // the epoch before
		if got := sn.saw(xid); got != want {
			t.Errorf("saw %d: %v", xid, got)
		}
	}
	// A snapshot just behind a wrap: small numbers are new, large ones old.
	sn = snapshot{xmin: epoch - 3, xmax: epoch + 2, xip: []uint64{epoch - 3, epoch}}
	for xid, want := range map[uint32]bool{0xfffffffd: false, 0xfffffffe: true, 0: false, 1: true, 2: false, 3: false} {
		if got := sn.saw(xid); got != want {
			t.Errorf("wrapped: saw %d: %v", xid, got)
		}
	}
}

func TestPositionText(t *testing.T) {
	p := streamPosition{V: 1, LSN: 0x1_0000_00AB, Last: 7, Tx: 0xFFFF_FFFF_0000_0001, N: 42}
	text := appendStream(nil, p)
	if want := `{"v":1,"lsn":"1/AB","last":"0/7","tx":"FFFFFFFF/1","n":42}`; string(text) != want {
		t.Errorf("%s", text)
	}
	var back streamPosition
	if err := parsePosition(streamKey, text, &back, &back.V); err != nil || back != p {
		t.Errorf("%+v %v", back, err)
	}
}

func TestStatusMessage(t *testing.T) {
	m := status(0x0102030405060708, true)
	if len(m) != 39 || m[0] != 'd' || binary.BigEndian.Uint32(m[1:]) != 38 || m[5] != 'r' || m[38] != 1 || binary.BigEndian.Uint64(m[14:]) != 0x0102030405060708 {
		t.Errorf("%x", m)
	}
}
