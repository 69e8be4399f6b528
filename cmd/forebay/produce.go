package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
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
	separator := c.Flags().String("key-separator", "", "text: what stands before this is the key")
	headers := c.Flags().StringArray("header", nil, "`name=value` for every record; repeatable")
	acks := c.Flags().String("acks", "all", "all | 1 | 0")
	codec := c.Flags().String("compression", "none", "none | gzip | snappy | lz4 | zstd")
	create := c.Flags().Bool("create", true, "create the topic when it is not there")
	c.RunE = func(c *cobra.Command, args []string) error {
		fixed, err := headerFlags(*headers)
		if err != nil {
			return err
		}
		opts := []kgo.Opt{kgo.DefaultProduceTopic(args[0]), kgo.ProducerBatchMaxBytes(1 << 20), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))}
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
		lines := bufio.NewScanner(s.in)
		lines.Buffer(nil, maxLine)
		for n := 1; lines.Scan() && first.get() == nil; n++ {
			r, err := parseLine(*format, *separator, lines.Bytes())
			if err != nil {
				return badInput(fmt.Sprintf("stdin:%d", n), err.Error(), "")
			}
			r.Headers = append(r.Headers, fixed...)
			client.Produce(c.Context(), r, func(_ *kgo.Record, err error) { first.set(err) })
		}
		if err := lines.Err(); err != nil {
			return badInput("stdin", err.Error(), "")
		}
		if err := client.Flush(c.Context()); err != nil {
			return err
		}
		if err := first.get(); err != nil {
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
		if err := json.Unmarshal(line, &j); err != nil {
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fmt.Errorf("not a JSON object: %w", err)
			}
			return nil, err
		}
		r := &kgo.Record{Key: bytesOf(j.Key), Value: bytesOf(j.Value)}
		for k, v := range j.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
		return r, nil
	}
	text := string(line)
	if separator != "" {
		if key, value, ok := strings.Cut(text, separator); ok {
			return &kgo.Record{Key: []byte(key), Value: []byte(value)}, nil
		}
	}
	return &kgo.Record{Value: []byte(text)}, nil
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}
