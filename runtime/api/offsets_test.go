package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

// FuzzPosition: what is shown of a position is a JSON object, of which the same position is made again.
func FuzzPosition(f *testing.F) {
	for _, p := range []string{"", `{"v":1,"lsn":"0/1"}`, `{"text":"x"}`, `{"base64":"eA=="}`, `{"text":"x","more":1}`, "17", "0/16B3748", "\xff\x00", `{"a":"\ud800"}`, "null", `{"a":1} x`, ` {"a" : 1}`} {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		text, err := json.Marshal(showPosition(connectors.Position(p)))
		if err != nil || !isObject(text) {
			t.Fatalf("%q is shown as %s: %v", p, text, err)
		}
		got, err := readPosition(text)
		if err != nil {
			t.Fatalf("%q, shown as %s: %v", p, text, err)
		}
		if isObject(p) {
			var a, b any
			if json.Unmarshal(p, &a) != nil || json.Unmarshal(got, &b) != nil {
				t.Fatalf("%q came back as %q", p, got)
			}
			if x, y := mustMarshal(t, a), mustMarshal(t, b); !bytes.Equal(x, y) {
				t.Fatalf("%q came back as %q", p, got)
			}
			return
		}
		if !bytes.Equal(p, got) {
			t.Fatalf("%q, shown as %s, came back as %q", p, text, got)
		}
	})
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAPartitionTwice: an offset that is given twice is refused, since one of the two would be lost.
func TestAPartitionTwice(t *testing.T) {
	const one = `{"partition":{"split":"s","key":"k"},"offset":{"a":1}}`
	for offsets, want := range map[string]string{one: "", one + `,{"partition":{"split":"s","key":"l"},"offset":null}`: "", one + "," + one: "offsets[1] names the partition of an earlier one"} {
		r := httptest.NewRequest(http.MethodPatch, "/", strings.NewReader(`{"offsets":[`+offsets+`]}`))
		_, err := readPositions(httptest.NewRecorder(), r)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", offsets, err, want)
		}
	}
}
