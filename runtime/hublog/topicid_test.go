package hublog

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// oldLog is a log of another make: it answers Metadata up to version 8, which has no topic ids.
type oldLog struct {
	cluster string
	topics  []string
}

func (o oldLog) dial(context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for o.answer(server) == nil {
		}
	}()
	return client, nil
}

// answer reads one request and writes its response, of a version with a plain header.
func (o oldLog) answer(c net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, frame); err != nil {
		return err
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	var body []byte
	switch key {
	case int16(kmsg.ApiVersions):
		r := kmsg.NewPtrApiVersionsResponse()
		r.Version = version
		for k, most := range map[kmsg.Key]int16{kmsg.ApiVersions: version, kmsg.Metadata: 8} {
			a := kmsg.NewApiVersionsResponseApiKey()
			a.ApiKey, a.MaxVersion = k.Int16(), most
			r.ApiKeys = append(r.ApiKeys, a)
		}
		body = r.AppendTo(nil)
	default:
		r := kmsg.NewPtrMetadataResponse()
		r.Version, r.ClusterID = version, &o.cluster
		b := kmsg.NewMetadataResponseBroker()
		b.Host, b.Port = "old", 9092
		r.Brokers = append(r.Brokers, b)
		for _, name := range o.topics {
			t := kmsg.NewMetadataResponseTopic()
			t.Topic = &name
			t.Partitions = []kmsg.MetadataResponseTopicPartition{kmsg.NewMetadataResponseTopicPartition()}
			r.Topics = append(r.Topics, t)
		}
		body = r.AppendTo(nil)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	_, err := c.Write(append(append(out, frame[4:8]...), body...))
	return err
}

// ids are the topics' ids as a Log of its own sees them.
func (o oldLog) ids(t *testing.T) map[string]Topic {
	l, err := Open(Options{Dial: o.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	topics, err := l.Topics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(topics) != len(o.topics) {
		t.Fatalf("topics %v, want %v", topics, o.topics)
	}
	return topics
}

// A log that gives topics no ids: each has one of its own all the same, the same whenever it is asked for, and another one in another cluster.
func TestTopicsWithoutIDs(t *testing.T) {
	old := oldLog{cluster: "a", topics: []string{"shop.orders", "shop.customers"}}
	first, again := old.ids(t), old.ids(t)
	old.cluster = "b"
	other := old.ids(t)
	seen := map[[16]byte]bool{{}: true}
	for _, name := range old.topics {
		if !first[name].Derived || first[name].ID != again[name].ID {
			t.Errorf("%s: %v, then %v", name, first[name], again[name])
		}
		for _, id := range [][16]byte{first[name].ID, other[name].ID} {
			if seen[id] {
				t.Errorf("%s: %x is also another's", name, id)
			}
			seen[id] = true
		}
	}
}
