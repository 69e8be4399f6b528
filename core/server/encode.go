package server

import (
	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/forebayhub/forebay/core/metadata"
)

// The encodings below are compact in flexible versions (KIP-482).

func appendArrayLen(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(dst, n)
	}
	return kbin.AppendArrayLen(dst, n)
}

func appendString(dst []byte, flexible bool, s string) []byte {
	if flexible {
		return kbin.AppendCompactString(dst, s)
	}
	return kbin.AppendString(dst, s)
}

func appendNullableString(dst []byte, flexible bool, s *string) []byte {
	if flexible {
		return kbin.AppendCompactNullableString(dst, s)
	}
	return kbin.AppendNullableString(dst, s)
}

// appendLeaderTag ends a partition of Produce or Fetch: its section of tags,
// with the current leader under the given tag when set (KIP-951).
func appendLeaderTag(dst []byte, set bool, tag uint32, leader metadata.NodeID, epoch int32) []byte {
	if !set {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = kbin.AppendUvarint(dst, tag)
	dst = kbin.AppendUvarint(dst, 9)
	dst = kbin.AppendInt32(dst, int32(leader))
	dst = kbin.AppendInt32(dst, epoch)
	return append(dst, 0)
}

// appendEndpoints ends a response of Produce or Fetch: tag 0 has the addresses
// of the leaders that it named (KIP-951).
func (s *Server) appendEndpoints(dst []byte, set bool, listener string, img *metadata.Image, nodes []metadata.NodeID) []byte {
	if !set || len(nodes) == 0 {
		return append(dst, 0)
	}
	var b []byte
	count := 0
	seen := map[metadata.NodeID]bool{}
	for _, id := range nodes {
		n := img.Nodes[id]
		if n == nil || seen[id] {
			continue
		}
		seen[id] = true
		count++
		host, port := s.d.Advertised(n, listener)
		b = kbin.AppendInt32(b, int32(id))
		b = kbin.AppendCompactString(b, host)
		b = kbin.AppendInt32(b, port)
		b = kbin.AppendCompactNullableString(b, rackOf(n))
		b = append(b, 0)
	}
	if count == 0 {
		return append(dst, 0)
	}
	b = append(kbin.AppendCompactArrayLen(nil, count), b...)
	dst = append(dst, 1)
	dst = kbin.AppendUvarint(dst, 0)
	dst = kbin.AppendUvarint(dst, uint32(len(b)))
	return append(dst, b...)
}

func rackOf(n *metadata.Node) *string {
	if n.Rack == "" {
		return nil
	}
	return &n.Rack
}
