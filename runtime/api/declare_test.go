package api

import (
	"encoding/json"
	"maps"
	"testing"
)

func TestFlatConfig(t *testing.T) {
	var f flat
	if err := json.Unmarshal([]byte(`{"a":"x","b":1,"c":true,"d":null,"e":1.50,"f":""}`), &f); err != nil {
		t.Fatal(err)
	}
	if got := f.given(); !maps.Equal(got, map[string]string{"a": "x", "b": "1", "c": "true", "e": "1.50", "f": ""}) || f["d"] != nil || len(f) != 6 {
		t.Error(got)
	}
	for _, bad := range []string{`[]`, `"a"`, `{"a":{}}`, `{"a":[1]}`, `1`} {
		if json.Unmarshal([]byte(bad), &f) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// FuzzFlat: any body is a config map of texts, or refused.
func FuzzFlat(f *testing.F) {
	for _, text := range []string{`{"a":"x","b":1,"d":null}`, `{"a":{}}`, `null`, `{"a":"\ud800"}`, `{`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got flat
		if json.Unmarshal(text, &got) != nil {
			return
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var back flat
		if err := json.Unmarshal(again, &back); err != nil || !maps.Equal(got.given(), back.given()) {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	})
}
