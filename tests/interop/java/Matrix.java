import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.*;
import org.apache.kafka.common.serialization.*;

/**
 * What Kafka's Java clients do against the node, or nodes, at args[0]: admin, five codecs, headers, null keys and values, records near
 * and over the limit and of 8 MB, groups, seeks, offsets by time, transactions, fencing. Ends with 1 and a line at the first surprise.
 * The consumers speak -Dgroup.protocol=classic or consumer. With "member TOPIC GROUP" it is a member of a group that prints its assignments, until stdin ends.
 */
public class Matrix {
    static final Random random = new Random();
    static final String run = Integer.toHexString(random.nextInt());
    static final String protocol = System.getProperty("group.protocol", "classic");
    static String addr;

    static void check(boolean ok, String what) {
        if (!ok) {
            System.out.println("wrong: " + what);
            Runtime.getRuntime().halt(1);
        }
    }

    interface Act { void run() throws Exception; }

    static void raises(Class<?> kind, Act act) throws Exception {
        try {
            act.run();
        } catch (Exception e) {
            check(kind.isInstance(e instanceof ExecutionException ? e.getCause() : e), "no " + kind + " but " + e);
            return;
        }
        check(false, "no " + kind);
    }

    static KafkaProducer<byte[], byte[]> producer(Object... more) {
        Map<String, Object> c = config(more);
        c.putIfAbsent("max.request.size", 10 << 20);
        return new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        Map<String, Object> c = config(more);
        c.putIfAbsent("auto.offset.reset", "earliest");
        c.putIfAbsent("enable.auto.commit", false);
        c.put("group.protocol", protocol);
        return new KafkaConsumer<>(c, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Map<String, Object> config(Object... more) {
        Map<String, Object> c = new HashMap<>();
        c.put("bootstrap.servers", addr);
        for (int i = 0; i < more.length; i += 2) c.put((String) more[i], more[i + 1]);
        return c;
    }

    interface Ask { boolean ok() throws Exception; }

    /** Waits until a node that is asked knows what another one has done. */
    static void eventually(String what, Ask ask) throws Exception {
        for (long end = System.nanoTime() + 30_000_000_000L; !ask.ok(); Thread.sleep(50)) check(System.nanoTime() < end, "not within 30 s: " + what);
    }

    /** Waits for what holds while all nodes are there; when none ends (RESTARTS) it holds at once. */
    static void whole(String what, Ask ask) throws Exception {
        if (System.getenv("RESTARTS") != null) eventually(what, ask); else check(ask.ok(), what);
    }

    interface Call<T> { T now() throws Exception; }

    /** Tries a consumer's call again that has met the end of a node, when nodes end and start meanwhile (RESTARTS). */
    static <T> T again(Call<T> call) throws Exception {
        for (long end = System.nanoTime() + 30_000_000_000L; ; Thread.sleep(100))
            try {
                return call.now();
            } catch (RetriableException e) {
                if (System.getenv("RESTARTS") == null || System.nanoTime() > end) throw e;
            }
    }

    static List<ConsumerRecord<byte[], byte[]>> read(Consumer<byte[], byte[]> c, int n) {
        List<ConsumerRecord<byte[], byte[]>> out = new ArrayList<>();
        for (long end = System.nanoTime() + 30_000_000_000L; out.size() < n; ) {
            check(System.nanoTime() < end, "only " + out.size() + " of " + n + " records");
            c.poll(Duration.ofMillis(200)).forEach(out::add);
        }
        return out;
    }

    static byte[] noise(int n) {
        byte[] b = new byte[n];
        random.nextBytes(b);
        return b;
    }

    static byte[] key(int i) { return i % 3 == 0 ? null : ("k" + i).getBytes(); }

    static byte[] value(String codec, int i) { return i % 7 == 1 ? null : (codec + " " + i + " ").repeat(i + 1).getBytes(); }

    static void codecs(String topic, String big) throws Exception {
        Set<String> sent = new HashSet<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (var p = producer("compression.type", codec, "linger.ms", 5)) {
                for (int i = 0; i < 200; i++) {
                    var r = new ProducerRecord<>(topic, i % 4, key(i), value(codec, i));
                    r.headers().add("id", (codec + " " + i).getBytes()).add("bytes", new byte[] {0, (byte) 255}).add("null", null);
                    sent.add(codec + " " + i);
                    p.send(r);
                }
                p.send(new ProducerRecord<>(topic, 0, null, noise(1_000_000))).get();
                raises(RecordTooLargeException.class, () -> p.send(new ProducerRecord<>(topic, 0, null, noise(1_100_000))).get());
                p.send(new ProducerRecord<>(big, noise(8 << 20))).get();
            }
        }
        try (var c = consumer("group.id", "g-" + run)) {
            c.subscribe(List.of(topic));
            for (var r : read(c, 1005)) {
                Header id = r.headers().lastHeader("id");
                if (id == null) {
                    check(r.value().length == 1_000_000, "a record near the limit came back different");
                    continue;
                }
                String[] at = new String(id.value()).split(" ");
                int i = Integer.parseInt(at[1]);
                check(Arrays.equals(r.key(), key(i)) && Arrays.equals(r.value(), value(at[0], i)), new String(id.value()) + " came back different");
                check(Arrays.equals(r.headers().lastHeader("bytes").value(), new byte[] {0, (byte) 255}) && r.headers().lastHeader("null").value() == null, "headers");
                sent.remove(new String(id.value()));
            }
            c.commitSync();
        }
        check(sent.isEmpty(), sent.size() + " records are missing");
        try (var c = consumer()) {
            c.assign(List.of(new TopicPartition(big, 0)));
            c.seekToBeginning(c.assignment());
            for (var r : read(c, 5)) check(r.value().length == 8 << 20, "8 MB came back different");
        }
    }

    static void seeks(String topic) throws Exception {
        var tp = new TopicPartition(topic, 1);
        try (var c = consumer("auto.offset.reset", "none")) {
            c.assign(List.of(tp));
            long end = again(() -> c.endOffsets(List.of(tp))).get(tp);
            check(again(() -> c.beginningOffsets(List.of(tp))).get(tp) == 0 && end > 0, "offsets");
            c.seek(tp, end - 1);
            var last = read(c, 1).get(0);
            check(last.offset() == end - 1, "seek");
            check(c.currentLag(tp).orElse(-1) == 0, "lag " + c.currentLag(tp)); // before offsetsForTimes, whose answers the client takes for ends
            check(again(() -> c.offsetsForTimes(Map.of(tp, last.timestamp()))).get(tp).offset() < end, "offset by time");
            check(again(() -> c.offsetsForTimes(Map.of(tp, last.timestamp() + 3_600_000))).get(tp) == null, "offset of the future");
            c.seek(tp, end + 100);
            raises(org.apache.kafka.clients.consumer.OffsetOutOfRangeException.class, () -> { for (int i = 0; i < 50; i++) c.poll(Duration.ofMillis(200)); });
        }
    }

    static void transactions(Admin admin, String topic, String out) throws Exception {
        var tp = new TopicPartition(topic, 0);
        var p = producer("transactional.id", "t-" + run);
        p.initTransactions();
        try (var c = consumer("group.id", "tg-" + run, "isolation.level", "read_committed")) {
            c.subscribe(List.of(topic));
            read(c, 1);
            for (int n = 0; n < 6; n++) { // consume, transform, produce
                p.beginTransaction();
                for (int i = 0; i < 10; i++) p.send(new ProducerRecord<>(out, i % 2, null, ("" + n).getBytes()));
                p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(n + 1)), c.groupMetadata());
                p.flush(); // else an abort drops what was not sent yet
                if (n % 2 == 1) p.abortTransaction(); else p.commitTransaction();
            }
            check(c.committed(Set.of(tp)).get(tp).offset() == 5, "the transaction's offset is " + c.committed(Set.of(tp)));
        }
        p.beginTransaction();
        p.send(new ProducerRecord<>(out, 0, null, "lost".getBytes())).get();
        check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals("t-" + run) && t.state() == TransactionState.ONGOING), "list transactions");
        check(admin.describeTransactions(List.of("t-" + run)).all().get().get("t-" + run).topicPartitions().contains(new TopicPartition(out, 0)), "describe transactions");
        var op = new TopicPartition(out, 0);
        check(admin.describeProducers(List.of(op)).all().get().get(op).activeProducers().stream().anyMatch(s -> s.currentTransactionStartOffset().isPresent()), "describe producers");
        try (var p2 = producer("transactional.id", "t-" + run)) {
            p2.initTransactions(); // fences the first
            raises(KafkaException.class, p::commitTransaction);
            p2.beginTransaction();
            for (int i = 0; i < 2; i++) p2.send(new ProducerRecord<>(out, i, null, "end".getBytes()));
            p2.commitTransaction();
        }
        p.close(Duration.ZERO);
        for (var level : Map.of("read_committed", 32, "read_uncommitted", 63).entrySet())
            try (var c = consumer("isolation.level", level.getKey())) {
                var both = List.of(op, new TopicPartition(out, 1));
                c.assign(both);
                c.seekToBeginning(both);
                List<String> seen = new ArrayList<>();
                while (Collections.frequency(seen, "end") < 2) read(c, 1).forEach(r -> seen.add(new String(r.value())));
                check(seen.size() == level.getValue(), level.getKey() + " saw " + seen);
                if (level.getValue() == 32) check(Set.of("0", "2", "4", "end").containsAll(seen), "read_committed saw " + seen);
            }
    }

    static void everything() throws Exception {
        String topic = "java-" + run, big = "java-big-" + run, out = "java-out-" + run;
        try (Admin admin = Admin.create(config())) {
            admin.createTopics(List.of(new NewTopic(topic, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "3600000")),
                new NewTopic(big, Optional.of(1), Optional.empty()).configs(Map.of("max.message.bytes", "9000000")),
                new NewTopic(out, Optional.of(2), Optional.empty()))).all().get();
            raises(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(topic, 3, (short) -1))).all().get());
            raises(InvalidConfigurationException.class, () -> admin.createTopics(List.of(new NewTopic("no", 1, (short) -1).configs(Map.of("retention.sm", "1")))).all().get());
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            eventually("four partitions", () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 4);
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET)))).all().get();
            eventually("the config that was set", () -> admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value().equals("7200000"));
            var cluster = admin.describeCluster();
            check(cluster.clusterId().get() != null, "cluster id");
            whole("describe cluster", () -> admin.describeCluster().nodes().get().size() == addr.split(",").length);
            check(admin.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("metadata.version"), "features");

            codecs(topic, big);
            seeks(topic);
            transactions(admin, topic, out);

            var tp = new TopicPartition(topic, 0);
            check(admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(5))).lowWatermarks().get(tp).get().lowWatermark() == 5, "delete records");
            check(admin.listOffsets(Map.of(tp, OffsetSpec.earliest())).all().get().get(tp).offset() == 5, "list offsets");
            check(admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).all().get().get(tp).offset() >= 5, "the offset of the newest time");
            String group = "g-" + run;
            whole("list groups", () -> admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)));
            check(admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY, "describe groups");
            var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            check(offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == 1005, "offsets " + offsets);
            admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(7, "moved"))).all().get();
            check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(tp).metadata().equals("moved"), "alter offsets");
            admin.deleteConsumerGroupOffsets(group, Set.of(tp)).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            check(!admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).isEmpty(), "log dirs");
            admin.deleteTopics(List.of(topic, big, out)).all().get();
        }
        System.out.println("ok");
    }

    static void member(String topic, String group) throws Exception {
        var over = new Thread(() -> { try { while (System.in.read() >= 0) { } } catch (Exception e) { } });
        over.setDaemon(true);
        over.start();
        List<Object> settings = new ArrayList<>(List.of("group.id", group, "enable.auto.commit", true, "auto.commit.interval.ms", 200));
        if (protocol.equals("classic")) settings.addAll(List.of("session.timeout.ms", 6000, "heartbeat.interval.ms", 500)); // else the broker's
        try (var c = consumer(settings.toArray())) {
            var listener = new ConsumerRebalanceListener() {
                void say() { System.out.println("assigned " + c.assignment().stream().map(p -> "" + p.partition()).sorted().collect(Collectors.joining(" "))); }
                public void onPartitionsRevoked(Collection<TopicPartition> gone) { }
                public void onPartitionsLost(Collection<TopicPartition> gone) { }
                public void onPartitionsAssigned(Collection<TopicPartition> come) { say(); }
            };
            c.subscribe(List.of(topic), listener);
            while (over.isAlive()) c.poll(Duration.ofMillis(200));
        }
    }

    public static void main(String[] args) throws Exception {
        addr = args[0];
        try {
            if (args.length > 1) member(args[2], args[3]); else everything();
        } catch (Throwable e) {
            e.printStackTrace();
            check(false, e.toString());
        }
    }
}
