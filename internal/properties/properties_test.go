package properties

import (
	"reflect"
	"strings"
	"testing"
)

// What java.util.Properties.load says of these lines.
func TestParse(t *testing.T) {
	text := "# a comment\n ! another = one\r\n\n" +
		"security.protocol=SASL_SSL\n" +
		"  sasl.mechanism : PLAIN\n" +
		"sasl.jaas.config=a.B required \\\n     username=\"x\" \\\n\tpassword=\"y\\\\z\";\n" +
		"path=C:\\\\dir\\\n" + "   more\n" +
		"a\\ b\\=c value with = and :\n" +
		"empty=\nalone\n" +
		"tab\tone\n" +
		"uni=\\u00e9\\ud83d\\ude00\n" +
		"twice=1\ntwice=2\n" +
		"end=x\\"
	want := map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": `a.B required username="x" password="y\z";`, "path": `C:\dirmore`,
		"a b=c": "value with = and :", "empty": "", "alone": "", "tab": "one", "uni": "é😀", "twice": "2", "end": "x",
	}
	all, err := Parse(text)
	got := Map(all)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	for _, bad := range []string{`a=\u12`, `a=\uzzzz`, `a=hush\u`} {
		if _, err := Parse("x=1\n" + bad); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
