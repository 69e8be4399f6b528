package main

import (
	"strings"
	"testing"
)

// TestTopicsAndGroups: what is done and what is refused is told for each name, in words of whom the command is for.
func TestTopicsAndGroups(t *testing.T) {
	kafka, web := startUp(t)
	for _, c := range []struct {
		stdin, args string
		code        int
		want        string // the whole output; "…x" when it has x
	}{
		{"", "topics create a b a.b a_b", 1, "created a\ncreated a.b\ncreated b\nforebay: a_b: Topic 'a_b' collides with existing topic: a.b\n"},
		{"", "topics create c --partitions 2", 0, "created c\n"},
		{"", "topics alter a", 2, "forebay: nothing to alter (give --config name=value, --unset name or --partitions N)\n"},
		{"", "topics alter a --partitions 0", 1, "…a: "},
		{"", "topics describe nosuch", 1, "forebay: nosuch: there is no such topic or partition (`forebay topics list` shows the topics)\n"},
		{"", "topics delete b nosuch", 1, "deleted b\nforebay: nosuch: there is no such topic or partition (`forebay topics list` shows the topics)\n"},
		{"", "topics delete __consumer_offsets", 2, "…give --internal if that is meant"},
		{"", "consume nosuch", 1, "forebay: nosuch: there is no such topic or partition (`forebay topics list` shows the topics)\n"},
		{"one\ntwo\nthree\n", "produce a", 0, ""},
		{`{"value":"x","partition":1}` + "\n" + `{"value":"y","partition":0}`, "produce c --format json", 0, ""},
		{"", "consume c --format json", 0, `…"partition":1,"offset":0`},
		{`{"value":"z","partition":0}` + "\n" + `{"valeu":"y"}`, "produce c --format json", 2,
			"forebay: stdin:2: not a JSON object of a record: unknown field \"valeu\" (the lines before it were appended, those from it on were not)\n"},
		{`{"value":5}`, "produce c --format json", 2, "…\"value\" cannot be a JSON number"},
		{`{"value":"5"}{}`, "produce c --format json", 2, "…more than one JSON object"},
		{"", "consume c", 0, "…z\n"},
		{strings.Repeat("x", 2<<20), "produce a", 1, "…a: a record is larger than"},
		{"", "consume a --group g", 0, "one\ntwo\nthree\n"},
		{"", "groups describe g", 0, "…g  Empty  members 0  lag 0\n"},
		{"", "groups alter g --offset a:0=4", 2, "forebay: --offset a:0=4: a-0 has offsets 0 to 3 (a number within, earliest or latest)\n"},
		{"", "groups alter g --offset nosuch=latest", 1, "forebay: nosuch: there is no such topic or partition (`forebay topics list` shows the topics)\n"},
		{"", "groups alter g --offset a:1=0", 2, "forebay: --offset a:1=0: topic a has no partition 1 (`forebay topics describe a` shows them)\n"},
		{"", "groups alter g --offset a:x=0", 2, "…the partition is no number"},
		{"", "groups alter g --offset a=-1", 2, "…'-1' is no offset"},
		{"", "groups reset g --offset a=1 --offset c=latest", 0, "altered g\n"},
		{"", "groups describe g", 0, "…g  Empty  members 0  lag 2\n"},
		{"", "consume a --group g", 0, "two\nthree\n"},
		{"", "groups delete g nosuch", 1, "…deleted g\nforebay: nosuch: "},
		{"", "connectors delete nosuch", 2, "…nosuch"},
	} {
		args := strings.Fields(c.args)
		if args[0] == "connectors" {
			args = append(args, "--http", web)
		} else {
			args = append(args, "--bootstrap", kafka)
		}
		got, code := command(t, c.stdin, args...)
		part, some := strings.CutPrefix(c.want, "…")
		if code != c.code || some && !strings.Contains(got, part) || !some && got != c.want {
			t.Errorf("%s: exit code %d\n got %s\nwant %s", c.args, code, got, c.want)
		}
	}
}
