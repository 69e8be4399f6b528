// Goclients is what franz-go, sarama and kafka-go do against a node, or nodes: goclients CLIENT BOOTSTRAP prints ok, or ends with 1 at the first surprise;
// goclients CLIENT BOOTSTRAP member TOPIC GROUP is a member of a group that prints its assignments, until stdin ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

var run = fmt.Sprintf("%08x", rand.Uint32())

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf("wrong: "+format+"\n", args...)
		debug.PrintStack()
		os.Exit(1)
	}
}

func must[T any](v T, err error) T {
	check(err == nil, "%v", err)
	return v
}

// restarts says that nodes end and start again meanwhile: RESTARTS in the environment.
var restarts = os.Getenv("RESTARTS") != ""

// again is must for a call that a client gives back with an error when it has met the end of a node: as long as the error says no more than that, and
// nodes do end, it is tried again, as an application would.
func again[T any](call func() (T, error)) T {
	v, err := call()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); restarts && passing(err) && time.Now().Before(end); v, err = call() {
		fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), err)
		<-tick.C
	}
	return must(v, err)
}

// redo is again for a call that gives back nothing but an error.
func redo(call func() error) {
	again(func() (struct{}, error) { return struct{}{}, call() })
}

// redone is redo for what cannot be done twice: that it was done already is no error of a second try.
func redone(already error, call func() error) {
	tries := 0
	redo(func() error {
		err := call()
		if tries++; tries > 1 && errors.Is(err, already) {
			return nil
		}
		return err
	})
}

// passing says whether an error tells of the network or of a moment, and is no answer.
func passing(err error) bool {
	var segment kafka.Error // which is a net.Error, too
	if errors.As(err, &segment) {
		return segment.Temporary() || segment == kafka.Unknown // what it makes of a connection that has ended, in ListOffsets
	}
	var network net.Error
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, sarama.ErrNotConnected, sarama.ErrOutOfBrokers, sarama.ErrNotLeaderForPartition,
		sarama.ErrLeaderNotAvailable, sarama.ErrNotCoordinatorForConsumer, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrOffsetsLoadInProgress} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.As(err, &network) || kerr.IsRetriable(err)
}

func do(err error) { check(err == nil, "%v", err) }

// eventually waits until a node that is asked knows what another one has done.
func eventually(what string, ok func() bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			check(false, "not within 30 s: %s", what)
		}
	}
}

// whole waits for what holds while all nodes are there; when none ends it holds at once.
func whole(what string, ok func() bool) {
	if restarts {
		eventually(what, ok)
		return
	}
	check(ok(), "%s", what)
}

func assigned(partitions []int32) {
	slices.Sort(partitions)
	fmt.Println(strings.TrimSpace("assigned " + strings.Trim(fmt.Sprint(partitions), "[]")))
}

// noise cannot be compressed.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// key and value of record i of a codec: every third key and every seventh value is null.
func content(codec string, i int) (key, value []byte) {
	if i%3 != 0 {
		key = fmt.Appendf(nil, "k%d", i)
	}
	if i%7 != 1 {
		value = []byte(strings.Repeat(fmt.Sprintf("%s %d ", codec, i), i+1))
	}
	return key, value
}

// same holds what came back against what was sent: nil is not empty.
func same(got, want []byte) bool { return string(got) == string(want) && (got == nil) == (want == nil) }

func main() {
	addrs := strings.Split(os.Args[2], ",")
	everything, member := saramaEverything, saramaMember
	switch os.Args[1] {
	case "kafka-go":
		everything, member = segmentEverything, segmentMember
	case "franz-go":
		everything, member = franzEverything, franzMember
	}
	if len(os.Args) > 3 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		member(ctx, addrs, os.Args[4], os.Args[5])
		return
	}
	everything(addrs)
	fmt.Println("ok")
}
