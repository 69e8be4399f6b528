package files

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Config is a file sink without its target.
type Config struct {
	Topics  []string // globs; * crosses dots
	Format  Format
	Pattern string
	Rotate  Rotate
	// MaxOpen bounds the files that one task writes at a time; the one that was
	// opened first is closed, and becomes one more file of its commit. Zero means
	// 128, or 32 with compression, whose encoders hold about a megabyte each.
	MaxOpen int
}

// Rotate says when a commit is due: once one of its files has reached Size bytes
// or Records records, or Interval after its first record arrived. Zero means never.
type Rotate struct {
	Size     int64
	Records  int64
	Interval time.Duration
}

// FormatOptions are what a config says about the format.
type FormatOptions struct {
	Flatten      bool
	FlattenGiven bool // false: the format's own default
	Coordinates  bool
	Compression  string // auto, none, gzip, zstd, snappy
}

// FormatMaker makes a Format, or says which option it cannot serve.
type FormatMaker func(FormatOptions) (Format, error)

// Formats are the formats of this package by their name in the config. Sinks
// that know more add theirs.
func Formats() map[string]FormatMaker {
	return map[string]FormatMaker{"json": NewJSON, "text": NewText}
}

// Fields are the config fields that every file sink has, beside its url.
func Fields(formats map[string]FormatMaker) []spec.Field {
	var names []string
	for n := range formats {
		names = append(names, n)
	}
	slices.Sort(names)
	return []spec.Field{
		{Name: "topics", Type: spec.Strings, Required: true, Example: `["shop.public.*", weblogs]`,
			Doc: "Names or globs of the topics to write; * crosses dots. New topics that match are found within 5 seconds."},
		{Name: "format", Type: spec.Enum, Enum: names, Default: "json",
			Doc: "What a file holds: json one value per line, text the value's bytes and a newline, parquet columns, avro rows in an object container file."},
		{Name: "flatten", Type: spec.Bool, Default: "false",
			Doc: "Turns a change event into the row's columns plus _op, _ts, _offset and _unchanged; the default is true for parquet and avro, false for json."},
		{Name: "coordinates", Type: spec.Bool, Default: "false",
			Doc: "Adds _topic, _partition, _offset, _timestamp and _key to each record; a JSON value that is no object moves under the key value."},
		{Name: "compression", Type: spec.Enum, Enum: []string{"auto", "none", "gzip", "zstd", "snappy"}, Default: "auto",
			Doc: "Compresses files; auto is none for json and text, snappy for parquet and avro. gzip (in avro: deflate) and zstd add .gz and .zst to a text or json file's name."},
		{Name: "partition", Type: spec.String, Example: `"dt=%Y-%m-%d/hour=%H"`, Check: checkPattern,
			Doc: "Folders under the topic's folder, from the record's timestamp in UTC: %Y %m %d %H %M %S %j %y %%; the rest is literal text."},
		{Name: "rotate", Type: spec.Group, Doc: "When open files are committed and become visible; whichever comes first.", Fields: []spec.Field{
			{Name: "size", Type: spec.Size, Default: "128MiB", Doc: "Commit once a file has reached this size; 0 means never by size."},
			{Name: "records", Type: spec.Int, Default: "0", Check: notNegative, Doc: "Commit once a file holds this many records; 0 means never by count."},
			{Name: "interval", Type: spec.Duration, Default: "10m", Doc: "Commit this long after the first record arrived, on quiet topics too; 0 means never by time."},
		}},
	}
}

func checkPattern(v any) error {
	_, err := ParsePattern(v.(string))
	return err
}

func notNegative(v any) error {
	if v.(int64) < 0 {
		return fmt.Errorf("%d is less than zero", v.(int64))
	}
	return nil
}

// ConfigOf reads the fields of Fields.
func ConfigOf(v spec.Values, formats map[string]FormatMaker) (Config, error) {
	c := Config{
		Topics:  v.Strings("topics"),
		Pattern: v.String("partition"),
		Rotate:  Rotate{Size: v.Size("rotate.size"), Records: v.Int("rotate.records"), Interval: v.Duration("rotate.interval")},
	}
	if _, err := ParsePattern(c.Pattern); err != nil {
		return c, fmt.Errorf("partition: %w", err)
	}
	for _, t := range c.Topics {
		if strings.TrimSpace(t) == "" {
			return c, fmt.Errorf("topics: an empty name")
		}
	}
	if c.Rotate == (Rotate{}) {
		return c, fmt.Errorf("rotate: with size, records and interval all 0 no file would ever be finished")
	}
	maker := formats[v.String("format")]
	if maker == nil {
		return c, fmt.Errorf("format: %q is not known", v.String("format"))
	}
	f, err := maker(FormatOptions{
		Flatten:      v.Bool("flatten"),
		FlattenGiven: v.Given("flatten"),
		Coordinates:  v.Bool("coordinates"),
		Compression:  v.String("compression"),
	})
	if err != nil {
		return c, err
	}
	c.Format = f
	return c, nil
}

func (c Config) maxOpen() int {
	switch {
	case c.MaxOpen > 0:
		return c.MaxOpen
	case strings.HasSuffix(c.Format.Extension(), ".gz"), strings.HasSuffix(c.Format.Extension(), ".zst"):
		return 32
	}
	return 128
}

// sinkID names a sink among all that may write to one target.
func sinkID(env connectors.Env) string { return env.Group + "/" + env.Name }
