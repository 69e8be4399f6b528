import java.util.*;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.common.TopicPartition;

/**
 * Counts the words of topic args[1] into topic args[2] with Kafka Streams, exactly once, its state in the folder args[3]; prints
 * "running", and how many records of the store's changelog it has restored; goes on until it is killed, or stdin ends.
 */
public class Words {
    public static void main(String[] args) throws Exception {
        Properties c = new Properties();
        c.put("application.id", "words-" + args[2]);
        c.put("bootstrap.servers", args[0]);
        c.put("state.dir", args[3]);
        c.put("processing.guarantee", "exactly_once_v2");
        c.put("commit.interval.ms", 100);
        c.put("replication.factor", -1);
        c.put("statestore.cache.max.bytes", 0);
        c.put("consumer.session.timeout.ms", 6000);
        c.put("consumer.heartbeat.interval.ms", 1000);
        c.put("consumer.auto.offset.reset", "earliest");
        c.put("producer.transaction.timeout.ms", 10000);
        c.put("num.stream.threads", 2);
        StreamsBuilder b = new StreamsBuilder();
        b.stream(args[1], Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((k, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream().to(args[2], Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams s = new KafkaStreams(b.build(), c);
        long[] restored = new long[1];
        s.setGlobalStateRestoreListener(new StateRestoreListener() {
            public void onRestoreStart(TopicPartition p, String store, long from, long to) { }
            public void onBatchRestored(TopicPartition p, String store, long to, long n) { synchronized (restored) { restored[0] += n; } }
            public void onRestoreEnd(TopicPartition p, String store, long n) { }
        });
        s.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) synchronized (restored) { System.out.println("running " + restored[0]); }
        });
        s.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        s.start();
        while (System.in.read() >= 0) { }
        s.close();
    }
}
