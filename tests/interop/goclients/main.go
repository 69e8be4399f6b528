// Goclients is what franz-go, sarama and kafka-go do against a node, or nodes: goclients CLIENT BOOTSTRAP prints ok, or ends with 1 at the first surprise;
// goclients CLIENT BOOTSTRAP member TOPIC GROUP is a member of a group that prints its assignments, until stdin ends.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

var run = fmt.Sprintf("%08x", rand.Uint32())

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf("wrong: "+format+"\n", args...)
		os.Exit(1)
	}
}

func must[T any](v T, err error) T {
	check(err == nil, "%v", err)
	return v
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
