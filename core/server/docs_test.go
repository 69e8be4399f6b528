package server

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

var update = flag.Bool("update", false, "write the files that are made from the table")

// golden compares with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is stale: go test ./core/server -run %s -update, and read the difference", name, t.Name())
	}
}

// What clients are told, byte for byte.
func TestApiVersionsGolden(t *testing.T) {
	n := newNode(t, nodeOptions{})
	var b strings.Builder
	for v := int16(0); v <= 5; v++ {
		req := apiVersionsRequest(v)
		c := n.dial()
		c.corr = 0x01020303
		c.send(req)
		frame, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		// The epoch of the finalized features counts this node's own metadata changes; it is the same in every run.
		fmt.Fprintf(&b, "version %d\n%s\n", v, hex.Dump(frame))
		resp := kmsg.NewPtrApiVersionsResponse()
		if err := decode(frame, req, resp, c.corr); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		for _, k := range resp.ApiKeys {
			fmt.Fprintf(&b, "%-28s %d–%d\n", kmsg.NameForKey(k.ApiKey), k.MinVersion, k.MaxVersion)
		}
		for _, f := range resp.SupportedFeatures {
			fmt.Fprintf(&b, "supported %s %d–%d\n", f.Name, f.MinVersion, f.MaxVersion)
		}
		for _, f := range resp.FinalizedFeatures {
			fmt.Fprintf(&b, "finalized %s %d\n", f.Name, f.MaxVersionLevel)
		}
		b.WriteString("\n")
	}
	golden(t, "testdata/api_versions.txt", b.String())
}

// KIP-511: a client from the future gets the v0 form, error 35 and the ranges, and goes on with them.
func TestApiVersionsFromTheFutureKIP511(t *testing.T) {
	n := newNode(t, nodeOptions{})
	c := n.dial()
	future := []byte{0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 7, 0xde, 0xad, 0xbe, 0xef, 1, 2}
	if _, err := c.c.Write(future); err != nil {
		t.Fatal(err)
	}
	v0 := kmsg.NewPtrApiVersionsRequest()
	resp := c.receive(v0, 7).(*kmsg.ApiVersionsResponse)
	if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) == 0 {
		t.Fatalf("%+v", resp)
	}
	if got := call[*kmsg.ApiVersionsResponse](c, apiVersionsRequest(3)); got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
}

// Clients are told of features that are here, at levels that are here.
func TestFinalizedFeaturesAreSupportedOnes(t *testing.T) {
	n := newNode(t, nodeOptions{})
	if _, err := n.quorum.Propose(t.Context(), &metadata.SetFeatures{Levels: map[string]int16{"streams.version": 1, "transaction.version": 1}}); err != nil {
		t.Fatal(err)
	}
	got := call[*kmsg.ApiVersionsResponse](n.dial(), apiVersionsRequest(4))
	levels := map[string]int16{}
	for _, f := range got.FinalizedFeatures {
		levels[f.Name] = f.MaxVersionLevel
	}
	if _, ok := levels["streams.version"]; ok || levels["transaction.version"] != 1 {
		t.Errorf("%v", levels)
	}
}

func TestApiVersionsChecksItsClient(t *testing.T) {
	n := newNode(t, nodeOptions{})
	ours, other := n.quorum.Image().ClusterID, "another-cluster-0000000"
	for name, c := range map[string]struct {
		change func(*kmsg.ApiVersionsRequest)
		code   int16
	}{
		"no software name (KIP-511)": {func(r *kmsg.ApiVersionsRequest) { r.ClientSoftwareName = "" }, kerr.InvalidRequest.Code},
		"bad software name":          {func(r *kmsg.ApiVersionsRequest) { r.ClientSoftwareName = "-x" }, kerr.InvalidRequest.Code},
		"bootstrapping (KIP-1242)":   {func(r *kmsg.ApiVersionsRequest) { r.NodeID = -1 }, 0},
		"right node":                 {func(r *kmsg.ApiVersionsRequest) { r.ClusterID, r.NodeID = &ours, 1 }, 0},
		"another node":               {func(r *kmsg.ApiVersionsRequest) { r.ClusterID, r.NodeID = &ours, 2 }, kerr.RebootstrapRequired.Code},
		"another cluster":            {func(r *kmsg.ApiVersionsRequest) { r.ClusterID, r.NodeID = &other, 1 }, kerr.RebootstrapRequired.Code},
		"a node without a cluster":   {func(r *kmsg.ApiVersionsRequest) { r.NodeID = 1 }, kerr.InvalidRequest.Code},
	} {
		r := apiVersionsRequest(5)
		c.change(r)
		if got := call[*kmsg.ApiVersionsResponse](n.dial(), r); got.ErrorCode != c.code {
			t.Errorf("%s: code %d, want %d", name, got.ErrorCode, c.code)
		}
	}
}

// docs/protocol.md is made from the table.
func TestProtocolDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# The Kafka protocol, as Forebay serves it

<!-- Made from core/server/table.go: go test ./core/server -run TestProtocolDocument -update -->

Versions are Apache Kafka 4.4's, as far as each API is served. A client asks with ApiVersions and picks; an
ApiVersions request of a version that is not in the table is answered in the form of version 0 with
UNSUPPORTED_VERSION and these ranges (KIP-511). Any other key or version closes the connection, with one line in the node's log.

| Key | API | Versions | |
|---:|---|---|---|
`)
	s := New(Deps{MaxInFlightBytes: 256 << 20}) // whatever GOMEMLIMIT is here
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		note := ""
		if a.refuseBelow > a.min {
			note = fmt.Sprintf("%d–%d are advertised but refused, as Kafka 4 does", a.min, a.refuseBelow-1)
		}
		versions := fmt.Sprintf("%d–%d", a.min, a.max)
		if a.min == a.max {
			versions = fmt.Sprint(a.min)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", a.key, a.key.Name(), versions, note)
	}
	b.WriteString("\nFeatures (KIP-584):\n\n| Feature | Supported | Finalized |\n|---|---|---|\n")
	for _, f := range features {
		fmt.Fprintf(&b, "| %s | %d–%d | %d |\n", f.name, f.min, f.max, f.level)
	}
	fmt.Fprintf(&b, `
Limits of a connection, and who waits when they are reached:

| Limit | Value | |
|---|---|---|
| frame of a Produce request | socket.request.max.bytes (%d MiB) | larger ones close the connection |
| frame of any other request | %d MiB | larger ones close the connection: decoding costs a multiple of the frame |
| bytes of all requests under way | queued.max.request.bytes (%d MiB) | the connection is not read until there is room; requests up to %d KiB do not count |
| Produce replies due | %d | further requests wait in the socket |
| Fetch response | fetch.max.bytes (%d MiB) | and at least one batch |
| fetch sessions | max.incremental.fetch.session.cache.slots (%d), %d partitions in all | fetches go on without a session |
| connection without a request | connections.max.idle.ms (%v) | it is closed |
| connections | max.connections (%d) | for one more, one that has not logged in yet is closed, or itself |

Produce requests of one connection are appended as they come and answered in order, each when its acks are in;
any other request waits until those before it are answered. Replies never overtake each other; acks=0 has none.
`, s.d.MaxRequestBytes>>20, maxDecodedFrame>>20, s.d.MaxInFlightBytes>>20, cheapFrame>>10, maxOutstanding, s.d.MaxFetchBytes>>20,
		s.d.FetchSessions, maxSessionParts, s.d.IdleTimeout, s.d.MaxConnections)
	golden(t, "../../docs/protocol.md", b.String())
}
