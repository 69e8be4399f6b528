// Package tail is the source that reads log files: line by line as they grow,
// through every kind of rotation, each line exactly once and each file in order.
//
// A record's value is the line without its newline, byte for byte (a carriage
// return before the newline stays). Its headers are host, path (the name under
// which the file was found first), offset (of the line's first byte, decimal) and
// file, which names the content: several files have one path in the course of time, but
// host, file and offset together are of one line only, through growth, renames,
// copytruncate and restarts. The files of one log are read one after the other, oldest first.
// The last line of a file is held back until its newline is written, or until
// the file was rotated away or deleted and nothing came for rotate_wait.
package tail

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Type is the source as plugins/builtin lists it.
func Type() connectors.SourceType {
	return connectors.SourceType{Name: "tail", Spec: Spec(), HostBound: true, New: New}
}

// maxLineLimit bounds max_line: no topic of a source takes a larger record.
const maxLineLimit = 16 << 20

// headerRoom is what Bound leaves for the headers, of which the path may have 4 KiB, and for what transforms add.
const headerRoom = 8 << 10

// Spec lists the fields.
func Spec() spec.Spec {
	return spec.Spec{
		Doc: "Reads log files as they grow and appends each line to a topic, exactly once, through rename, copytruncate, deletion and re-creation. " +
			"A task stays on its host, which is known by its host name: that must be the machine's own and stay. A machine that is renamed reads all its files anew. Compressed files are left alone. " +
			"Headers of each record: host, path (under which the file was found first), offset (of the line's first byte), file (names the content: host, file and offset are of one line only).",
		Fields: []spec.Field{
			{Name: "paths", Type: spec.Strings, Required: true, Check: checkGlobs, Example: "[/var/log/nginx/*.log]",
				Doc: "Files to read, as globs; ** crosses folders. New files that match are found within a second."},
			{Name: "exclude", Type: spec.Strings, Check: checkGlobs, Example: `["*.gz", /var/log/nginx/debug.log]`,
				Doc: "Files to leave out, as globs over the whole path (a relative one as in paths) or, without a slash, over the file's name."},
			{Name: "topic", Type: spec.String, Check: checkTopic, Doc: "The topic to append to; the default is the source's name."},
			{Name: "partitions", Type: spec.Int, Default: "1", Check: atLeast(1),
				Doc: "Partitions of the topic when it is created; a file's lines stay in one. The files share those of a topic that is there and has fewer."},
			{Name: "start", Type: spec.Enum, Enum: []string{"beginning", "end"}, Default: "beginning",
				Doc: "Where to begin in files that are there at the very first start; later files are read from their beginning."},
			{Name: "multiline", Type: spec.Group, Doc: "Joins lines into one record.", Fields: []spec.Field{
				{Name: "start", Type: spec.String, Check: checkRegexp, Example: `'^\d{4}-\d\d-\d\d'`,
					Doc: "A regular expression that matches the first line of each record; lines that do not match belong to the record before."},
				{Name: "timeout", Type: spec.Duration, Default: "2s",
					Doc: "How long a record waits for another line before it counts as complete."},
			}},
			{Name: "max_line", Type: spec.Size, Default: "1MiB", Check: checkMaxLine,
				Doc: "The longest record, in bytes, at most 16MiB; where the topic's max.message.bytes less 9 KiB is less, that counts. Up to twice as much is held in memory."},
			{Name: "on_long", Type: spec.Enum, Enum: []string{"split", "truncate", "drop"}, Default: "split",
				Doc: "What happens to a longer one: split makes more records of it and loses nothing, truncate keeps its beginning, drop leaves it out."},
			{Name: "rotate_wait", Type: spec.Duration, Default: "30s",
				Doc: "How long a file that was renamed to a name that paths do not match, or deleted, is still watched after its last line; and how long newer files of the same log wait for an older one whose last line has no newline. What was read of files in a folder that is not there is remembered for an hour, in one that cannot be read or is not mounted for 30 days."},
			{Name: "poll", Type: spec.Duration, Default: "250ms", Check: atLeastDuration(time.Millisecond),
				Doc: "How often to look for new data where the system does not tell (network file systems)."},
			{Name: "max_open", Type: spec.Int, Default: "1000", Check: atLeast(1),
				Doc: "Files held open at a time; beyond it the one that was read longest ago is closed, and opened again when it grows."},
		},
	}
}

func checkGlobs(v any) error {
	for _, g := range v.([]string) {
		if g == "" {
			return errors.New("an empty path")
		}
		if !doublestar.ValidatePathPattern(g) {
			return fmt.Errorf("%q is no glob", g)
		}
	}
	return nil
}

// topicName is what Kafka takes for one (org.apache.kafka.common.internals.Topic).
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func checkTopic(v any) error {
	if name := v.(string); name == "." || name == ".." || !topicName.MatchString(name) {
		return errors.New("a topic's name has up to 249 letters, digits, dots, hyphens and underscores")
	}
	return nil
}

func checkRegexp(v any) error {
	_, err := regexp.Compile(v.(string))
	return err
}

func checkMaxLine(v any) error {
	if n := v.(spec.ByteSize); n < 1 || n > maxLineLimit {
		return errors.New("between 1 byte and 16MiB, which is what a topic takes")
	}
	return nil
}

func atLeast(n int64) func(any) error {
	return func(v any) error {
		if v.(int64) < n || v.(int64) > 1e6 {
			return fmt.Errorf("between %d and 1000000", n)
		}
		return nil
	}
}

func atLeastDuration(d time.Duration) func(any) error {
	return func(v any) error {
		if v.(time.Duration) < d {
			return fmt.Errorf("at least %s", d)
		}
		return nil
	}
}

type config struct {
	paths, exclude []string
	topic          string
	partitions     int32
	fromEnd        bool
	splitter       splitter
	maxLine        int           // bytes; splitter.max is less where the topic takes less
	flush          time.Duration // of a multiline record
	rotateWait     time.Duration
	poll           time.Duration
	maxOpen        int
}

func configOf(v spec.Values, env connectors.Env) (config, error) {
	c := config{
		exclude:    slices.Clone(v.Strings("exclude")),
		topic:      v.String("topic"),
		partitions: int32(v.Int("partitions")),
		fromEnd:    v.String("start") == "end",
		splitter:   splitter{max: int(v.Size("max_line"))},
		maxLine:    int(v.Size("max_line")),
		flush:      v.Duration("multiline.timeout"),
		rotateWait: v.Duration("rotate_wait"),
		poll:       v.Duration("poll"),
		maxOpen:    int(v.Int("max_open")),
	}
	if c.topic == "" {
		c.topic = env.Name
	}
	for _, e := range v.Strings("exclude") { // a relative one is written as those of paths are
		if abs, err := filepath.Abs(e); err == nil && filepath.Base(e) != e && abs != e {
			c.exclude = append(c.exclude, abs)
		}
	}
	for _, p := range v.Strings("paths") {
		abs, err := filepath.Abs(p)
		if err != nil {
			return c, fmt.Errorf("paths: %w", err)
		}
		c.paths = append(c.paths, abs)
	}
	if len(c.paths) == 0 {
		return c, errors.New("paths: name at least one file")
	}
	if text := v.String("multiline.start"); text != "" {
		re, err := regexp.Compile(text)
		if err != nil {
			return c, fmt.Errorf("multiline.start: %w", err)
		}
		c.splitter.start = re
	}
	switch v.String("on_long") {
	case "truncate":
		c.splitter.long = longTruncate
	case "drop":
		c.splitter.long = longDrop
	}
	return c, nil
}
