package dlq

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzPlace(f *testing.F) {
	for _, s := range []string{"orders-0@17", "a-b-3@0", "x@1", "-1@1", "t-99999999999@1", "t-0@-1", "t-0@9223372036854775808", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlace(s)
		if err != nil {
			return
		}
		if again, err := ParsePlace(p.String()); err != nil || again != p || p.Topic == "" || p.Partition < 0 || p.Offset < 0 {
			t.Fatalf("%q is %+v and %+v: %v", s, p, again, err)
		}
	})
}

// Whatever is in the topic, the place of an entry is what its key says.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"topic":"t","partition":2,"offset":3}`), []byte(`{"topic":"u","stage":"sink","reason":"r","time":"2026-11-30T00:00:00Z"}`))
	f.Add([]byte(`{"v":1,"open":true}`), []byte(`{}`))
	f.Add([]byte(`{"v":2}`), []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, gone, ok := parse(key, value)
		if !ok {
			return
		}
		again, _, ok := parse(recordKey{Place: e.Place}.bytes(), value)
		if !ok || again.Place != e.Place || gone != (value == nil) {
			t.Fatalf("%+v and %+v", e.Place, again.Place)
		}
	})
}

// A reason that quotes a payload does not copy it, and what is written is text.
func TestExplainIsBounded(t *testing.T) {
	var err = errors.New(strings.Repeat("ä\xff", 1<<20))
	for i := range 100 {
		err = fmt.Errorf("%d: %w", i, err)
	}
	var e Entry
	e.Explain(err)
	if len(e.Reason) > 3*mostText || !utf8.ValidString(e.Reason) || len(e.Causes) != mostCauses || !strings.HasPrefix(e.Causes[0], "98: 97: ") {
		t.Errorf("reason of %d bytes, %d causes", len(e.Reason), len(e.Causes))
	}
	e.Explain(fmt.Errorf("copy: %w", errors.New("too long")))
	if e.Reason != "copy: too long" || len(e.Causes) != 1 || e.Causes[0] != "too long" {
		t.Errorf("%+v", e.Causes)
	}
}
