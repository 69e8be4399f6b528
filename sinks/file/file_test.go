package file

import (
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

func values(t testing.TB, fields ...string) spec.Values {
	t.Helper()
	n := spec.Node{Shape: spec.Mapping}
	for i := 0; i < len(fields); i += 2 {
		n.Map = append(n.Map, spec.Entry{Key: fields[i], Value: spec.Node{Shape: spec.Scalar, Text: fields[i+1]}})
	}
	v, findings := Type().Spec.Parse(n)
	if len(findings) > 0 {
		t.Fatalf("%+v", findings)
	}
	return v
}

func TestSpec(t *testing.T) {
	if err := Type().Spec.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestDirectory(t *testing.T) {
	for in, want := range map[string]string{"/a/b/": "/a/b", "file:///a/b": "/a/b", "file://localhost/a": "/a", "file:/a": "/a"} {
		if got, err := directory(in); err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "hdfs://n/a", "file://host/a", "file://"} {
		if got, err := directory(bad); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, fields := range [][]string{
		{"format", "text", "coordinates", "true"},
		{"rotate.size", "0", "rotate.interval", "0"},
		{"compression", "snappy"},
	} {
		v := values(t, append([]string{"url", "/x", "topics", "t"}, fields...)...)
		if _, err := Type().New(v, connectors.Env{}); err == nil {
			t.Errorf("%v is accepted", fields)
		}
	}
}
