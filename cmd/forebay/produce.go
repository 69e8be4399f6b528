package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/problem"
)

// maxLine bounds one line of input: a record cannot be larger than a request.
const maxLine = 64 << 20

// jsonRecord is one record in --format json, in and out.
type jsonRecord struct {
	Topic     string            `json:"topic,omitempty"`
	Partition *int32            `json:"partition,omitempty"`
	Offset    *int64            `json:"offset,omitempty"`
	Timestamp int64             `json:"timestamp,omitempty"` // ms
	Key       *string           `json:"key"`
	Value     *string           `json:"value"`
	Headers   map[string]string `json:"headers,omitempty"`
}

func produceCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Append records from stdin, one per line",
		Args:  cobra.ExactArgs(1),
	}
	format := c.Flags().String("format", "text", "text: a line is a value; json: a line is {key, value, headers, partition}")
	separator := c.Flags().String("key-separator", "", "text: what stands before this is the key, `\\t` for a tab; each line must have it")
	headers := c.Flags().StringArray("header", nil, "`name=value` for every record; repeatable")
	acks := c.Flags().String("acks", "all", "all | 1 | 0")
	codec := c.Flags().String("compression", "none", "none | gzip | snappy | lz4 | zstd")
	create := c.Flags().Bool("create", true, "create the topic when it is not there")
	c.RunE = func(c *cobra.Command, args []string) error {
		fixed, err := headerFlags(*headers)
		if err != nil {
			return err
		}
		opts := []kgo.Opt{kgo.DefaultProduceTopic(args[0]), kgo.ProducerBatchMaxBytes(1 << 20), kgo.RecordPartitioner(asWritten{kgo.StickyKeyPartitioner(nil)})}
		switch *acks {
		case "all":
		case "1":
			opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		case "0":
			opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
		default:
			return badInput("--acks "+*acks, "no such level", "all, 1 or 0")
		}
		compression, err := codecFlag(*codec)
		if err != nil {
			return err
		}
		opts = append(opts, kgo.ProducerBatchCompression(compression))
		if *create {
			opts = append(opts, kgo.AllowAutoTopicCreation())
		}
		if *format != "text" && *format != "json" {
			return badInput("--format "+*format, "no such format", "text or json")
		}
		client, err := dial(c, opts...)
		if err != nil {
			return err
		}
		defer client.Close()
		var first firstError
		settle := func() error { // until what was produced is there, or is known not to be
			if err := client.Flush(c.Context()); err != nil {
				return err
			}
			return first.get()
		}
		sep := strings.ReplaceAll(*separator, `\t`, "\t")
		lines := bufio.NewScanner(s.in)
		lines.Buffer(nil, maxLine)
		for n := 1; lines.Scan() && first.get() == nil; n++ {
			r, err := parseLine(*format, sep, lines.Bytes())
			if err != nil {
				if err := settle(); err != nil { // what came before the line is there, whatever its batch was, or the user hears of that first
					return refused(args[0], err)
				}
				return badInput(fmt.Sprintf("stdin:%d", n), err.Error(), "the lines before it were appended, those from it on were not")
			}
			r.Headers = append(r.Headers, fixed...)
			client.Produce(c.Context(), r, func(_ *kgo.Record, err error) { first.set(err) })
		}
		if err := lines.Err(); err != nil {
			return badInput("stdin", err.Error(), "")
		}
		if err := settle(); errors.Is(err, kerr.MessageTooLarge) {
			return &problem.Error{Code: "message-too-large", Class: problem.Runtime, Where: args[0], What: "a record is larger than the topic's max.message.bytes, or than the 1 MiB that this command sends",
				Hint: "`forebay topics describe " + args[0] + " --json` shows the topic's", Err: err}
		} else if err != nil {
			return refused(args[0], err)
		}
		return nil
	}
	addBootstrap(c)
	return c
}

// firstError keeps the first of many.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func headerFlags(pairs []string) ([]kgo.RecordHeader, error) {
	var out []kgo.RecordHeader
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return nil, badInput("--header "+p, "not name=value", "")
		}
		out = append(out, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return out, nil
}

func codecFlag(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, badInput("--compression "+name, "no such codec", "none, gzip, snappy, lz4 or zstd")
}

func parseLine(format, separator string, line []byte) (*kgo.Record, error) {
	if format == "json" {
		var j jsonRecord
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields() // a misspelt "value" would be a tombstone
		err := d.Decode(&j)
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &kind) && kind.Field != "":
			return nil, fmt.Errorf("%q cannot be a JSON %s", kind.Field, kind.Value)
		case err != nil:
			return nil, fmt.Errorf("not a JSON object of a record: %s", strings.TrimPrefix(err.Error(), "json: "))
		case d.More():
			return nil, errors.New("more than one JSON object")
		}
		r := &kgo.Record{Key: bytesOf(j.Key), Value: bytesOf(j.Value), Partition: -1}
		if j.Partition != nil {
			r.Partition = *j.Partition
		}
		for k, v := range j.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
		return r, nil
	}
	text := string(line)
	if separator != "" {
		if key, value, ok := strings.Cut(text, separator); ok {
			return &kgo.Record{Key: []byte(key), Value: []byte(value), Partition: -1}, nil
		}
		return nil, fmt.Errorf("the line has no %q, so no key", separator)
	}
	return &kgo.Record{Value: []byte(text), Partition: -1}, nil
}

// asWritten puts a record into the partition that it names, and others where the partitioner below says.
type asWritten struct{ kgo.Partitioner }

func (a asWritten) ForTopic(topic string) kgo.TopicPartitioner {
	return asWrittenTopic{a.Partitioner.ForTopic(topic)}
}

type asWrittenTopic struct{ kgo.TopicPartitioner }

func (a asWrittenTopic) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || a.TopicPartitioner.RequiresConsistency(r)
}

func (a asWrittenTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return a.TopicPartitioner.Partition(r, n)
}

// OnNewBatch has the sticky partitioner go on to another partition.
func (a asWrittenTopic) OnNewBatch() {
	if next, ok := a.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		next.OnNewBatch()
	}
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}
