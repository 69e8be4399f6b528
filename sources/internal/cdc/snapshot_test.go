package cdc

import (
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

func TestCopying(t *testing.T) {
	type positions = map[connectors.PositionKey]connectors.Position
	for what, x := range map[string]struct {
		at   positions
		want string
	}{
		"not begun":        {nil, "its beginning"},
		"nothing to copy":  {positions{"stream": []byte(`{}`)}, ""},
		"all there":        {positions{"stream": []byte(`{}`), "table:a": []byte(`{"v":1,"state":"done"}`), "table:b": []byte(`{"v":1,"state":"copied"}`)}, ""},
		"one of them":      {positions{"table:a": []byte(`{"v":1,"state":"done"}`), "table:b": []byte(`{"v":1,"state":"copying"}`)}, "b"},
		"the first":        {positions{"table:c": []byte(`{"state":"copying"}`), "table:b": []byte(`{"state":"copying"}`), "table:d": []byte(`{"state":"copying"}`)}, "b"},
		"not a position":   {positions{"table:a": []byte(`no JSON`)}, ""},
		"of another thing": {positions{"slot": []byte(`{"state":"copying"}`)}, ""},
	} {
		if got := Copying(x.at, "table:"); got != x.want {
			t.Errorf("%s: %q, want %q", what, got, x.want)
		}
	}
}
