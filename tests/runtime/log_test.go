// Package runtime_test runs the runtime against a real log: the embedded node,
// or, with FOREBAY_TEST_BOOTSTRAP, any Kafka-compatible cluster. It lies here
// since the runtime itself may not import core (wall 1).
package runtime_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// openLog gives the options of a log that lives as long as the test.
func openLog(t testing.TB) hublog.Options {
	t.Helper()
	if b := os.Getenv("FOREBAY_TEST_BOOTSTRAP"); b != "" {
		return hublog.Options{Bootstrap: strings.Split(b, ",")}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b, err := broker.Open(ctx, broker.Options{DataDir: t.TempDir(), KafkaAddr: "127.0.0.1:0"})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("broker:", err)
		}
	})
	<-b.Ready()
	return hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) { return b.Dial(ctx) }}
}

// dialer adapts the options' Dial to a Kafka client.
func dialer(o hublog.Options) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
}

// unique makes a name that no other test uses on a shared cluster.
func unique(prefix string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + "-" + hex.EncodeToString(b[:])
}

// eventually polls until ok says true.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

// exactly checks that got is 0, 1, 2, … n-1.
func exactly(t testing.TB, got []int64, n int64) {
	t.Helper()
	seen := map[int64]int{}
	for _, v := range got {
		seen[v]++
	}
	var wrong []string
	for i := range n {
		if seen[i] != 1 && len(wrong) < 10 {
			wrong = append(wrong, fmt.Sprintf("%d: %d times", i, seen[i]))
		}
	}
	if len(wrong) > 0 || int64(len(got)) != n {
		t.Fatalf("%d records instead of %d; %s", len(got), n, strings.Join(wrong, ", "))
	}
}
