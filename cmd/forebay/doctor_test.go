package main

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func TestPartitionVerdict(t *testing.T) {
	topics := func(parts ...kadm.PartitionDetail) kadm.TopicDetails {
		d := kadm.TopicDetail{Topic: "t", Partitions: kadm.PartitionDetails{}}
		for n, p := range parts {
			p.Partition = int32(n)
			d.Partitions[p.Partition] = p
		}
		return kadm.TopicDetails{"t": d}
	}
	well := kadm.PartitionDetail{Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{2, 1}}
	short := kadm.PartitionDetail{Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{1}}
	dead := kadm.PartitionDetail{Leader: -1, Replicas: []int32{1, 2}, ISR: []int32{1}}
	for _, c := range []struct {
		topics kadm.TopicDetails
		want   verdict
	}{
		{topics(well, well), verdict{State: "ok", Found: "2, all replicas in sync"}},
		{topics(well, short), verdict{State: "warning", Found: "2, 0 without a leader, 1 more with replicas that are not in sync", Advice: "`forebay topics describe t` says why"}},
		{topics(dead, short), verdict{State: "bad", Found: "2, 1 without a leader, 1 more with replicas that are not in sync", Advice: "`forebay topics describe t` says why"}},
	} {
		c.want.Check = "partitions"
		if got := partitionVerdict(c.topics); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// TestDoctorOfACluster: a node that runs is found well, and one that nobody reaches is told.
func TestDoctorOfACluster(t *testing.T) {
	kafka, web := startUp(t)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"doctor", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--bootstrap", kafka}, nil, &out, &errs)
	if code != 0 || !strings.Contains(out.String(), "node 1 at "+kafka+": reachable") || !strings.Contains(out.String(), "partitions: 0, all replicas in sync") ||
		!strings.Contains(out.String(), "node 1's disk of ") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	// The port of the node that was reached is held by it, and not by somebody who has to go.
	out.Reset()
	code = run(t.Context(), []string{"doctor", "--data", t.TempDir(), "--kafka", kafka, "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", web, "--bootstrap", kafka}, nil, &out, &errs)
	if code != 0 || !strings.Contains(out.String(), "ok       --kafka "+kafka+": held by node 1\n") || !strings.Contains(out.String(), "ok       --gossip 127.0.0.1:0: free") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	out.Reset()
	if code = run(t.Context(), []string{"doctor", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--peer", kafka, "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0"}, nil, &out, &errs); code != 3 ||
		!strings.Contains(out.String(), "bad      --peer "+kafka) {
		t.Errorf("exit code %d\n%s", code, out.String())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if v := nodeVerdict(t.Context(), "node 2", l.Addr().String(), false); v.State != "bad" || !strings.Contains(v.Found, "refused") {
		t.Errorf("%+v", v)
	}
	if v := nodeVerdict(t.Context(), "node 2", l.Addr().String(), true); v.State != "bad" || !strings.Contains(v.Found, "fenced") {
		t.Errorf("%+v", v)
	}
}

func TestRoomVerdict(t *testing.T) {
	for _, c := range []struct {
		free, total int64
		err         error
		want        string
	}{{50 << 30, 100 << 30, nil, "ok"}, {9 << 30, 100 << 30, nil, "warning"}, {-1, -1, nil, "ok"}, {-1, -1, kerr.KafkaStorageError, "bad"}} {
		if v := roomVerdict("d", c.free, c.total, c.err); v.State != c.want || v.State != "ok" && v.Advice == "" {
			t.Errorf("%+v: %+v", c, v)
		}
	}
}
