package main

import (
	"strings"
	"testing"
)

// TestCommandLine: whatever is wrong with a command line, one line says what and how to mend it, and the exit code is 2.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"topcis", "forebay: `forebay` has no command 'topcis' (did you mean `forebay topics`?)\n"},
		{"xyzzy", "forebay: `forebay` has no command 'xyzzy' (see `forebay --help`)\n"},
		{"topics lst", "forebay: `forebay topics` has no command 'lst' (did you mean `forebay topics list`?)\n"},
		{"topics lst --json", "forebay: `forebay topics` has no command 'lst' (did you mean `forebay topics list`?)\n"},
		{"topics describe", "forebay: an argument is missing (write `forebay topics describe TOPIC… [flags]`, and see `forebay topics describe --help`)\n"},
		{"version 1", "forebay: wrong arguments: 1 (write `forebay version [flags]`, and see `forebay version --help`)\n"},
		{"topics alter a b", "forebay: wrong arguments: a b (write `forebay topics alter TOPIC [flags]`, and see `forebay topics alter --help`)\n"},
		{"topics create a --partitions abc", "forebay: --partitions abc: not a number (see `forebay topics create --help`)\n"},
		{"topics create a --replication 99999", "forebay: --replication 99999: too large a number, or too small a one (see `forebay topics create --help`)\n"},
		{"up --insecure=yes", "forebay: --insecure yes: neither true nor false (see `forebay up --help`)\n"},
		{"audit f n --wait 5", "forebay: --wait 5: not a duration; write it like 30s, 10m or 1h30m (see `forebay audit --help`)\n"},
		{"topics create a --partition 3", "forebay: unknown flag: --partition (did you mean --partitions? See `forebay topics create --help`)\n"},
		{"up --xyzzy", "forebay: unknown flag: --xyzzy (see `forebay up --help`)\n"},
		{"up --data", "forebay: flag needs an argument: --data (see `forebay up --help`)\n"},
	} {
		if got, code := command(t, "", strings.Fields(c.args)...); code != 2 || got != c.want {
			t.Errorf("%s: exit code %d\n got %s\nwant %s", c.args, code, got, c.want)
		}
	}
	for args, want := range map[string]string{"": "Usage:", "--help": "Usage:", "help topics": "forebay topics", "topics help": "forebay topics", "topics": "forebay topics", "--version": version, "__complete top": "topics"} {
		if got, code := command(t, "", strings.Fields(args)...); code != 0 || !strings.Contains(got, want) {
			t.Errorf("%q: exit code %d, %s", args, code, got)
		}
	}
}
