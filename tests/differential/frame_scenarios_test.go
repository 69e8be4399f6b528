package differential

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frameScenario sends what is not a request.
func frameScenario(s *side) {
	raw := func(label string, b []byte) {
		c := s.dial()
		c.write(b)
		got, err := c.frame(patience / 10)
		switch {
		case err != nil && isTimeout(err):
			s.noted(label, nil, "silent")
		case err != nil:
			s.noted(label, nil, "closed")
		default:
			s.noted(label, nil, fmt.Sprintf("answered, error %d", binary.BigEndian.Uint16(got[4:])))
		}
	}
	frame := func(key, version int16, body ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = append(b, 0, 0, 0, 9, 0xff, 0xff)
		b = append(b, body...)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	raw("length 0", []byte{0, 0, 0, 0})
	raw("negative length", []byte{0xff, 0xff, 0xff, 0xff})
	raw("length of 2 GB", []byte{0x7f, 0xff, 0xff, 0xff, 0, 3})
	raw("length 1", []byte{0, 0, 0, 1, 0})
	raw("header cut short", []byte{0, 0, 0, 6, 0, 3, 0, 1, 0, 0})
	raw("TLS", []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0})
	raw("HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	raw("unknown key", frame(999, 0))
	raw("negative key", frame(-1, 0))
	for _, key := range []int16{4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 95} {
		raw(fmt.Sprintf("key %d, not for clients", key), frame(key, 0, make([]byte, 40)...))
	}
	raw("unknown version", frame(3, 99))
	raw("negative version", frame(3, -1))
	raw("version of long ago", frame(19, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	raw("ApiVersions 99", frame(18, 99, 0))
	raw("ApiVersions -1", frame(18, -1))
	raw("Produce 2", frame(0, 2, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0))
	raw("Metadata, body cut short", frame(3, 1, 0, 0, 0, 2, 0, 5, 'a'))
	raw("Metadata, trailing bytes", frame(3, 1, 0, 0, 0, 0, 1, 2, 3))
	raw("Metadata, two billion topics", frame(3, 1, 0x7f, 0xff, 0xff, 0xff))
	raw("Metadata 12, tags without end", frame(3, 12, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f))
	raw("Heartbeat, null group", frame(12, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0))
	raw("Fetch, null topics", frame(1, 4, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0xff, 0xff, 0xff, 0xff))
	// A request in two pieces, and two in one.
	c := s.dial()
	b := frame(18, 0)
	c.write(b[:5])
	c.write(b[5:])
	_, err := c.frame(patience)
	s.noted("in two pieces", nil, fmt.Sprint(err == nil))
	c.write(append(append([]byte{}, b...), b...))
	_, err = c.frame(patience)
	_, err2 := c.frame(patience)
	s.noted("two at once", nil, fmt.Sprint(err == nil, err2 == nil))
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// emptyScenario sends every key and version with an empty body.
func emptyScenario(s *side) {
	for key := range int16(100) {
		// Produce has acks 0 then and no answer; Kafka does not answer AddPartitionsToTxn without a transaction at all; what lists the whole server is asked elsewhere.
		if key == int16(kmsg.Produce) || key == int16(kmsg.AddPartitionsToTxn) || key == int16(kmsg.Metadata) || key == int16(kmsg.DescribeTopicPartitions) || key == int16(kmsg.DescribeConfigs) {
			continue
		}
		s.each(kmsg.Key(key), func(v int16) {
			s.do("empty", kmsg.Key(key), v, M{})
		})
	}
}
