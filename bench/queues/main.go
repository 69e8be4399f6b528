// Command queues puts the latency load of bench/log on brokers that do not speak the Kafka protocol: NATS JetStream and
// RabbitMQ. It is a module of its own, since what it imports is no business of Forebay's. It prints one JSON object:
// {"p50": ms, "p99": ms}, end to end.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
)

// queue is one persistent queue; every publish is confirmed.
type queue interface {
	publish(ctx context.Context, b []byte) error // may return before the confirmation
	consume(fn func(b []byte)) error
	flush(ctx context.Context) error // waits for all confirmations; an error if one was refused
	close()
}

// window is how many publishes may wait for their confirmations.
const window = 2000

type natsQueue struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
	failed atomic.Int64
}

func openNATS(ctx context.Context, url, name string) (queue, error) {
	q := &natsQueue{name: name}
	var err error
	if q.conn, err = nats.Connect(url); err != nil {
		return nil, err
	}
	q.js, err = jetstream.New(q.conn, jetstream.WithPublishAsyncMaxPending(window),
		jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) { q.failed.Add(1) }))
	if err != nil {
		return nil, err
	}
	q.stream, err = q.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage})
	return q, err
}

func (q *natsQueue) publish(_ context.Context, b []byte) error {
	_, err := q.js.PublishAsync(q.name, b, jetstream.WithStallWait(30*time.Second))
	return err
}

func (q *natsQueue) consume(fn func([]byte)) error {
	c, err := q.stream.OrderedConsumer(context.Background(), jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	_, err = c.Consume(func(m jetstream.Msg) { fn(m.Data()) }, jetstream.PullMaxMessages(5000))
	return err
}

func (q *natsQueue) flush(ctx context.Context) error {
	select {
	case <-q.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	if n := q.failed.Load(); n > 0 {
		return fmt.Errorf("%d messages were not confirmed", n)
	}
	return nil
}

func (q *natsQueue) close() { q.conn.Close() }

type amqpQueue struct {
	conn   *amqp.Connection
	out    *amqp.Channel
	name   string
	room   chan struct{}
	failed atomic.Int64
}

func openAMQP(_ context.Context, url, name string) (queue, error) {
	q := &amqpQueue{name: name, room: make(chan struct{}, window)}
	var err error
	if q.conn, err = amqp.Dial(url); err != nil {
		return nil, err
	}
	if q.out, err = q.conn.Channel(); err != nil {
		return nil, err
	}
	if _, err = q.out.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return nil, err
	}
	if err = q.out.Confirm(false); err != nil {
		return nil, err
	}
	confirmed := q.out.NotifyPublish(make(chan amqp.Confirmation, window))
	go func() {
		for c := range confirmed {
			if !c.Ack {
				q.failed.Add(1)
			}
			<-q.room
		}
	}()
	return q, nil
}

func (q *amqpQueue) publish(ctx context.Context, b []byte) error {
	q.room <- struct{}{}
	return q.out.PublishWithContext(ctx, "", q.name, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: b})
}

func (q *amqpQueue) consume(fn func([]byte)) error {
	in, err := q.conn.Channel()
	if err == nil {
		err = in.Qos(1000, 0, false)
	}
	if err != nil {
		return err
	}
	list, err := in.Consume(q.name, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for d := range list {
			fn(d.Body)
			if d.Ack(false) != nil {
				return // the connection ended; what is missing then is counted
			}
		}
	}()
	return nil
}

func (q *amqpQueue) flush(ctx context.Context) error {
	for range window {
		select {
		case q.room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for range window {
		<-q.room
	}
	if n := q.failed.Load(); n > 0 {
		return fmt.Errorf("%d messages were not confirmed", n)
	}
	return nil
}

func (q *amqpQueue) close() { _ = q.conn.Close() } // all is confirmed

func main() {
	kind := flag.String("kind", "", "nats or rabbitmq")
	url := flag.String("url", "", "where the server is")
	rate := flag.Int("rate", 1000, "messages per second")
	d := flag.Duration("d", 5*time.Second, "length of the run")
	warmUp := flag.Duration("warm-up", time.Second, "what comes before it and is not counted")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *warmUp+*d+2*time.Minute)
	defer cancel()
	open := map[string]func(context.Context, string, string) (queue, error){"nats": openNATS, "rabbitmq": openAMQP}[*kind]
	err := fmt.Errorf("no kind %q", *kind)
	if open != nil {
		err = run(ctx, open, *url, *rate, *d, *warmUp)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "queues:", err)
		os.Exit(1)
	}
}

// run is endToEnd of bench/log: messages of 1 KiB leave when they are due, whatever the broker does, and are timed until the consumer has them.
func run(ctx context.Context, open func(context.Context, string, string) (queue, error), url string, rate int, d, warmUp time.Duration) error {
	q, err := open(ctx, url, fmt.Sprintf("latency-%d", time.Now().UnixNano()))
	if err != nil {
		return err
	}
	defer q.close()
	total := int(float64(rate) * (warmUp + d).Seconds())
	base := time.Now()
	var (
		mu   sync.Mutex
		ms   []float64
		got  int
		done = make(chan struct{})
	)
	err = q.consume(func(b []byte) {
		now := time.Since(base)
		mu.Lock()
		defer mu.Unlock()
		sent := time.Duration(binary.LittleEndian.Uint64(b))
		if sent == 0 {
			return
		}
		if i := binary.LittleEndian.Uint64(b[8:]); i >= uint64(float64(rate)*warmUp.Seconds()) {
			ms = append(ms, float64(now-sent)/1e6)
		}
		if got++; got == total {
			close(done)
		}
	})
	if err != nil {
		return err
	}
	value := make([]byte, 1024)
	if err := errors.Join(q.publish(ctx, value), q.flush(ctx)); err != nil {
		return err
	}
	begin := time.Since(base)
	for i := range total {
		due := begin + time.Duration(i)*time.Second/time.Duration(rate)
		if wait := due - time.Since(base); wait > 0 {
			time.Sleep(wait)
		}
		at := time.Since(base)
		if at-due > 2*time.Millisecond { // the client was held up: that is not to look like a fast broker
			at = due
		}
		v := append([]byte(nil), value...)
		binary.LittleEndian.PutUint64(v, uint64(at))
		binary.LittleEndian.PutUint64(v[8:], uint64(i))
		if err := q.publish(ctx, v); err != nil {
			return err
		}
	}
	if err := q.flush(ctx); err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("%d of %d messages came: %w", got, total, ctx.Err())
	}
	slices.Sort(ms)
	at := func(p float64) float64 { return ms[min(int(p*float64(len(ms))), len(ms)-1)] }
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{"p50": at(0.50), "p99": at(0.99)})
}
