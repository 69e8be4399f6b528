package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reachTime bounds a connection to a node.
const reachTime = 3 * time.Second

// clusterVerdicts looks at a running cluster: whether this machine reaches each node, and what is wrong with its partitions. The nodes that were
// reached are by their address.
func clusterVerdicts(c *cobra.Command) (out []verdict, reached map[string]int32, err error) {
	admin, done, err := dialAdmin(c)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	rows, err := nodeRows(c, admin)
	if err != nil {
		return nil, nil, err
	}
	topics, err := admin.ListTopicsWithInternal(c.Context())
	if err != nil {
		return nil, nil, refused("", err)
	}
	reached = map[string]int32{}
	client, err := dial(c)
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	sec, err := security(c)
	if err != nil {
		return nil, nil, err
	}
	config, err := sec.Config()
	if err != nil {
		return nil, nil, badInput("--command-config", err.Error(), "")
	}
	for _, r := range rows {
		name := fmt.Sprintf("node %d", r.ID)
		v := nodeVerdict(c.Context(), name, r.Kafka, r.dead)
		if r.dead {
			v.Found += sinceThen(r.Since)
		}
		out = append(out, v)
		if v.State != "ok" {
			continue
		}
		reached[r.Kafka] = r.ID
		if config != nil {
			out = append(out, certificateVerdict(c.Context(), name, r.Kafka, config))
		}
		out = append(out, diskVerdicts(c.Context(), client, r.ID)...)
	}
	return append(out, partitionVerdict(topics)), reached, nil
}

// certificateSoon is how long before its end a certificate is talked of.
const certificateSoon = 30 * 24 * time.Hour

// certificateVerdict looks at the certificate by which a node shows itself to clients.
func certificateVerdict(ctx context.Context, name, kafka string, config *tls.Config) verdict {
	v := verdict{Check: name + "'s certificate", State: "ok"}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	nc, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", kafka)
	if err != nil {
		v.State, v.Found, v.Advice = "bad", rootCause(err), "look at ssl.truststore.location of --command-config, and at the node's certificate"
		return v
	}
	defer nc.Close()
	end := nc.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter
	v.Found = "ends at " + end.UTC().Format(time.RFC3339)
	if time.Until(end) < certificateSoon {
		v.State, v.Advice = "warning", "make a new one before: `forebay tls init --renew`; the node takes it over while it runs"
	}
	return v
}

// diskVerdicts are those of a node's log directories, as it tells them (KIP-827), and of what it has found damaged in them.
func diskVerdicts(ctx context.Context, client *kgo.Client, node int32) (out []verdict) {
	check := fmt.Sprintf("node %d's disks", node)
	dirs, damaged, err := logDirs(ctx, client, node)
	if err != nil {
		return []verdict{{Check: check, State: "warning", Found: rootCause(err), Advice: "it takes the right to describe the cluster"}}
	}
	for _, name := range slices.Sorted(maps.Keys(damaged)) {
		out = append(out, verdict{Check: fmt.Sprintf("node %d's log of %s", node, name), State: "bad", Found: "damaged: " + damaged[name],
			Advice: "docs/operations.md, A log is damaged: it is repaired by itself when another replica is in sync"})
	}
	for _, d := range dirs {
		out = append(out, roomVerdict(fmt.Sprintf("node %d's disk of %s", node, d.Dir), d.UsableBytes, d.TotalBytes, kerr.ErrorForCode(d.ErrorCode)))
	}
	return out
}

func roomVerdict(check string, free, total int64, err error) verdict {
	v := verdict{Check: check, State: "ok"}
	switch {
	case err != nil:
		v.State, v.Found, v.Advice = "bad", "it has failed, and its partitions are offline: "+rootCause(err), "replace the disk: docs/operations.md, A disk is replaced"
		return v
	case total <= 0:
		v.Found = "it is not told how full it is"
		return v
	}
	v.Found = fmt.Sprintf("%d of %d MiB free", free>>20, total>>20)
	if free < total/10 {
		v.State, v.Advice = "warning", "less than a tenth: a shorter retention, or delete topics, never files; docs/operations.md, Full disk"
	}
	return v
}

func nodeVerdict(ctx context.Context, name, kafka string, fenced bool) verdict {
	v := verdict{Check: name + " at " + kafka, State: "ok", Found: "reachable"}
	if fenced {
		v.State, v.Found, v.Advice = "bad", "fenced: the active controller does not hear it", "start it, or see why the other nodes do not reach its --peer"
		return v
	}
	d := net.Dialer{Timeout: reachTime}
	nc, err := d.DialContext(ctx, "tcp", kafka)
	if err != nil {
		v.State, v.Found, v.Advice = "bad", rootCause(err), "clients go to this address: it must be one that they reach (advertised.listeners)"
		return v
	}
	_ = nc.Close() // it was only a probe
	return v
}

func partitionVerdict(topics kadm.TopicDetails) verdict {
	v := verdict{Check: "partitions", State: "ok"}
	all, none, behind, first := 0, 0, 0, ""
	for _, t := range topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			all++
			switch {
			case p.Leader < 0:
				none++
			case len(p.ISR) < len(p.Replicas):
				behind++
			default:
				continue
			}
			if first == "" {
				first = t.Topic
			}
		}
	}
	v.Found = fmt.Sprintf("%d, all replicas in sync", all)
	switch {
	case none > 0:
		v.State = "bad"
	case behind > 0:
		v.State = "warning"
	default:
		return v
	}
	v.Found = fmt.Sprintf("%d, %d without a leader, %d more with replicas that are not in sync", all, none, behind)
	v.Advice = "`forebay topics describe " + first + "` says why"
	return v
}
