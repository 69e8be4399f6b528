// Recorder stands between a client and a node and keeps the client's requests, for tests/wire.
//
//	forebay up --kafka 127.0.0.1:9092 --set advertised.listeners=PLAINTEXT://127.0.0.1:9192
//	go run ./tests/wire/recorder -listen 127.0.0.1:9192 -node 127.0.0.1:9092 -out tests/wire/testdata/CLIENT.frames
//
// What tells of the machine is taken out by hand, without changing a length: kafka-go's client id has the host's name.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
)

const (
	most  = 3       // requests of one key and version that are kept
	large = 8 << 10 // bytes above which a request is not kept
)

type recorder struct {
	mu   sync.Mutex
	out  *os.File
	kept map[string]int
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9192", "where clients come")
	node := flag.String("node", "127.0.0.1:9092", "the node, which advertises -listen")
	out := flag.String("out", "client.frames", "what is written: frames as they were on the wire, one after the other")
	flag.Parse()
	file, err := os.Create(*out)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	r := &recorder{out: file, kept: map[string]int{}}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go r.serve(c, *node)
	}
}

func (r *recorder) serve(client net.Conn, node string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", node)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(client, server) // an end is the end of both
		_ = client.Close()
	}()
	in := bufio.NewReader(client)
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		frame := make([]byte, 4+binary.BigEndian.Uint32(head))
		copy(frame, head)
		if _, err := io.ReadFull(in, frame[4:]); err != nil {
			return
		}
		if err := r.keep(frame); err != nil {
			log.Fatal(err)
		}
		if _, err := server.Write(frame); err != nil {
			return
		}
	}
}

func (r *recorder) keep(frame []byte) error {
	if len(frame) > large {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	what := fmt.Sprintf("%x", frame[4:8])
	if r.kept[what]++; r.kept[what] > most {
		return nil
	}
	_, err := r.out.Write(frame)
	return err
}
