package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var sample = Spec{Doc: "A sample.", Fields: []Field{
	{Name: "url", Type: String, Required: true, Example: "hdfs://nn:8020/lake", Doc: "Where."},
	{Name: "password", Type: Secret, Doc: "How."},
	{Name: "topics", Type: Strings, Default: "[a, b]", Doc: "What."},
	{Name: "format", Type: Enum, Enum: []string{"parquet", "json", "text"}, Default: "json", Doc: "As what."},
	{Name: "flatten", Type: Bool, Default: "true", Doc: "Flat."},
	{Name: "tries", Type: Int, Default: "3", Doc: "Tries.", Check: func(v any) error {
		if v.(int64) < 1 {
			return errors.New("at least 1")
		}
		return nil
	}},
	{Name: "rotate", Type: Group, Fields: []Field{
		{Name: "size", Type: Size, Default: "128MiB", Doc: "Size."},
		{Name: "interval", Type: Duration, Default: "10m", Doc: "Time."},
	}},
	{Name: "multiline.start", Type: String, Doc: "A field with a dot is a member too."},
}}

func scalar(text string) Node { return Node{Shape: Scalar, Text: text, Line: 3, Col: 9} }

func mapping(pairs ...any) Node {
	n := Node{Shape: Mapping, Line: 1, Col: 1}
	for i := 0; i < len(pairs); i += 2 {
		v, ok := pairs[i+1].(Node)
		if !ok {
			v = scalar(pairs[i+1].(string))
		}
		n.Map = append(n.Map, Entry{Key: pairs[i].(string), Line: 3, Col: 3, Value: v})
	}
	return n
}

func TestParse(t *testing.T) {
	v, findings := sample.Parse(mapping("type", "x", "url", "u", "password", "s3cret", "format", "text", "flatten", "false", "tries", "7",
		"topics", Node{Shape: List, List: []Node{scalar("p"), scalar("q")}}, "rotate", mapping("size", "1GB"), "rotate.interval", "7d", "multiline", mapping("start", "^x")), "type")
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	got := fmt.Sprint(v.String("url"), v.Secret("password"), v.Secret("password").Reveal(), v.String("format"), v.Bool("flatten"), v.Int("tries"),
		v.Strings("topics"), v.Size("rotate.size"), v.Duration("rotate.interval"), v.String("multiline.start"), v.Given("url"), v.Given("type"))
	if want := fmt.Sprint("u", "******", "s3cret", "text", false, 7, []string{"p", "q"}, 1_000_000_000, 7*24*time.Hour, "^x", true, false); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d := sample.Defaults()
	if d.Size("rotate.size") != 128<<20 || d.Given("rotate.size") || fmt.Sprint(d.Strings("topics")) != "[a b]" || d.Int("tries") != 3 {
		t.Errorf("defaults %+v", d)
	}
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		node Node
		want string // path: message (hint)
	}{
		{mapping("url", "u", "fromat", "json"), "fromat: unknown field 'fromat' (did you mean 'format'?)"},
		{mapping("url", "u", "rotate", mapping("sise", "1")), "rotate.sise: unknown field 'rotate.sise' (did you mean 'rotate.size'?)"},
		{mapping("url", "u", "rotate_size", "1"), "rotate_size: unknown field 'rotate_size' (did you mean 'rotate.size'?)"},
		{mapping("url", "u", "interval", "1s"), "interval: unknown field 'interval' (did you mean 'rotate.interval'?)"},
		{mapping("url", "u", "zzz", "1"), "zzz: unknown field 'zzz' ()"},
		{mapping("tries", "1"), "url: field 'url' is required (for example url: hdfs://nn:8020/lake)"},
		{mapping("url", ""), "url: field 'url' is empty (it is required)"},
		{mapping("url", Node{Shape: Absent}), "url: field 'url' has no value (remove the line to take the default)"},
		{mapping("url", "u", "url", "v"), "url: field 'url' is given twice ()"},
		{mapping("url", "u", "rotate.size", "1", "rotate", mapping("size", "1")), "rotate.size: field 'rotate.size' is given twice ()"},
		{mapping("url", "u", "format", "parket"), `format: field 'format': "parket" is not one of parquet, json, text (did you mean 'parquet'?)`},
		{mapping("url", "u", "flatten", "yes"), `flatten: field 'flatten': "yes" is neither true nor false ()`},
		{mapping("url", "u", "tries", "many"), `tries: field 'tries': "many" is not a whole number ()`},
		{mapping("url", "u", "tries", "0"), `tries: field 'tries': at least 1 ()`},
		{mapping("url", "u", "rotate", mapping("size", "12 parsecs")), `rotate.size: field 'rotate.size': "12 parsecs" is not a size; write it like 128MiB, 1GB or 4096 ()`},
		{mapping("url", "u", "rotate", mapping("interval", "10")), `rotate.interval: field 'rotate.interval': "10" is not a duration; write it like 30s, 10m, 1h30m or 7d ()`},
		{mapping("url", "u", "rotate", "1m"), "rotate: field 'rotate' is a mapping (its fields are rotate.size, rotate.interval)"},
		{mapping("url", mapping("a", "b")), "url: field 'url' is a single string ()"},
		{mapping("url", "u", "tries", Node{Shape: List}), "tries: field 'tries' is a whole number ()"},
		{scalar("x"), ": a connector is a mapping of fields (write each field on a line of its own: name: value)"},
	} {
		_, findings := sample.Parse(c.node)
		if len(findings) == 0 {
			t.Errorf("no finding; want %s", c.want)
			continue
		}
		f := findings[0]
		if got := fmt.Sprintf("%s: %s (%s)", f.Path, f.Message, f.Hint); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if f.Line == 0 {
			t.Errorf("%s: no line", c.want)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "1KiB": 1024, "128MiB": 128 << 20, "128 mib": 128 << 20, "1GB": 1e9, "1.5GiB": 3 << 29, "7B": 7, "-1": -1,
		"9223372036854775807": 1<<63 - 1, "9223372036854775808": -1, "9000000TiB": -1, "NaNMiB": -1, "infGB": -1, "1e3MB": -1, "MiB": -1, "": -1, "0x10": -1} {
		got, err := ParseSize(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || int64(got) != want) {
			t.Errorf("size %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"0": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour,
		"10": -1, "-1s": -1, "d": -1, "1d-1h": -1, "": -1, "999999999d": -1} {
		got, err := ParseDuration(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("duration %q: %v, %v; want %v", text, got, err, want)
		}
	}
	if s := ByteSize(128 << 20).String(); s != "128MiB" {
		t.Error(s)
	}
}

func TestFlatMapsAndSecrets(t *testing.T) {
	flat := map[string]string{"url": "u", "topics": "a, b", "rotate.size": "1MiB", "password": "p"}
	n := FlatNode(flat)
	v, findings := sample.Parse(n)
	if len(findings) > 0 || fmt.Sprint(v.Strings("topics")) != "[a b]" || v.Size("rotate.size") != 1<<20 {
		t.Errorf("%v %+v", findings, v)
	}
	back := sample.Flatten(mapping("url", "u", "password", "p", "rotate", mapping("size", "1MiB"), "topics", Node{Shape: List, List: []Node{scalar("a"), scalar("b")}}))
	if got, want := fmt.Sprint(back), "map[password:****** rotate.size:1MiB topics:a,b url:u]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", v.Secret("password"), v.Secret("password"), v.Secret("password"), v.Secret("password")); strings.Contains(s, "p") {
		t.Errorf("a secret prints as %s", s)
	}
}

func TestPrintAndCheck(t *testing.T) {
	if err := sample.Check(); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := sample.Print(&b, "sample"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"url  (string, required)", "rotate.size  (size, default 128MiB)", "format  (parquet | json | text, default json)", "example: url: hdfs://nn:8020/lake"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	bad := Spec{Fields: []Field{{Name: "A", Type: Size, Default: "x"}, {Name: "b", Type: Enum}, {Name: "b", Type: Bool, Required: true, Default: "true", Doc: "d"}}}
	if err := bad.Check(); err == nil || strings.Count(err.Error(), "\n") < 5 {
		t.Errorf("Check finds only %v", err)
	}
}

func FuzzScalars(f *testing.F) {
	for _, s := range []string{"1.5GiB", "7d12h", "true", "9223372036854775808", "0.1e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text); err == nil && n < 0 {
			t.Errorf("size %q is %d", text, n)
		}
		if d, err := ParseDuration(text); err == nil && d < 0 {
			t.Errorf("duration %q is %v", text, d)
		}
		_, _ = sample.Parse(mapping(text, text))
	})
}
