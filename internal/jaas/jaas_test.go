package jaas

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestJAAS(t *testing.T) {
	l, err := Parse(`org.apache.kafka.common.security.plain.PlainLoginModule required
		username="admin" password='a"b' user_admin="a\"b"  user_bob = plain ;`)
	want := map[string]string{"username": "admin", "password": `a"b`, "user_admin": `a"b`, "user_bob": "plain"}
	if err != nil || l.Module != "org.apache.kafka.common.security.plain.PlainLoginModule" || !reflect.DeepEqual(l.Options, want) {
		t.Errorf("%+v %v", l, err)
	}
	if p := l.Passwords(); len(p) != 2 || p["bob"] != "plain" {
		t.Error(p)
	}
	for _, s := range []string{"", ";", "a required", "a sometimes b=c;", "a required b;", "a required b=;", "a required b=c d;", `a required b="c;`, "a required b=hush; more"} {
		if _, err := Parse(s); !errors.Is(err, Err) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzJAAS(f *testing.F) {
	f.Add(`a.b required user_x="y" password='\'';`)
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err == nil && l.Module == "" && len(l.Options) > len(s) {
			t.Fatal(l)
		}
	})
}
