import java.io.File;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Comparator;
import java.util.Properties;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Counts the words of topic args[1] into topic args[2] with Flink, KafkaSink EXACTLY_ONCE, its checkpoints in the folder args[3], its
 * transactions named by the strategy args[4]. It starts from the newest checkpoint there, prints "running" and that one's number, and goes on
 * until it is killed, or stdin ends.
 */
public class FlinkWords {
    static class Counter extends KeyedProcessFunction<String, Tuple2<String, Long>, Tuple2<String, Long>> {
        transient ValueState<Long> count;

        public void open(OpenContext c) { count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG)); }

        public void processElement(Tuple2<String, Long> word, Context c, Collector<Tuple2<String, Long>> out) throws Exception {
            long n = (count.value() == null ? 0 : count.value()) + word.f1;
            count.update(n);
            out.collect(Tuple2.of(word.f0, n));
        }
    }

    static class Word implements SerializationSchema<Tuple2<String, Long>> {
        public byte[] serialize(Tuple2<String, Long> t) { return t.f0.getBytes(StandardCharsets.UTF_8); }
    }

    static class Count implements SerializationSchema<Tuple2<String, Long>> {
        public byte[] serialize(Tuple2<String, Long> t) { return ByteBuffer.allocate(8).putLong(t.f1).array(); }
    }

    static int number(File checkpoint) { return Integer.parseInt(checkpoint.getName().substring("chk-".length())); }

    /** Checkpoints lie in FOLDER/JOB/chk-N; each job starts above the number that it came from. */
    static File newest(File folder) throws Exception {
        if (!folder.exists()) return null;
        try (Stream<File> all = java.nio.file.Files.walk(folder.toPath()).map(p -> p.toFile())) {
            return all.filter(f -> f.getName().equals("_metadata")).map(File::getParentFile).max(Comparator.comparing(FlinkWords::number)).orElse(null);
        }
    }

    public static void main(String[] args) throws Exception {
        File folder = new File(args[3]), from = newest(folder);
        Configuration c = new Configuration();
        c.setString("execution.checkpointing.interval", "300 ms");
        c.setString("execution.checkpointing.dir", folder.toURI().toString());
        c.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        c.setString("execution.checkpointing.num-retained", "3");
        c.setString("restart-strategy.type", "none");
        if (from != null) c.setString("execution.state-recovery.path", from.toURI().toString());
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(2, c);
        Properties p = new Properties();
        p.put("transaction.timeout.ms", "60000");
        KafkaSource<String> source = KafkaSource.<String>builder().setBootstrapServers(args[0]).setTopics(args[1]).setGroupId("flink-" + args[2])
            .setStartingOffsets(OffsetsInitializer.earliest()).setValueOnlyDeserializer(new SimpleStringSchema()).build();
        KafkaSink<Tuple2<String, Long>> sink = KafkaSink.<Tuple2<String, Long>>builder().setBootstrapServers(args[0]).setKafkaProducerConfig(p)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix("flink-" + args[2])
            .setTransactionNamingStrategy(TransactionNamingStrategy.valueOf(args[4]))
            .setRecordSerializer(KafkaRecordSerializationSchema.<Tuple2<String, Long>>builder().setTopic(args[2])
                .setKeySerializationSchema(new Word()).setValueSerializationSchema(new Count()).build()).build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "lines")
            .flatMap((String line, Collector<Tuple2<String, Long>> out) -> { for (String w : line.split(" ")) out.collect(Tuple2.of(w, 1L)); })
            .returns(Types.TUPLE(Types.STRING, Types.LONG))
            .keyBy(t -> t.f0).process(new Counter()).returns(Types.TUPLE(Types.STRING, Types.LONG)).sinkTo(sink);
        var job = env.executeAsync("words");
        job.getJobExecutionResult().exceptionally(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        System.out.println("running " + (from == null ? 0 : number(from)));
        while (System.in.read() >= 0) { }
        Runtime.getRuntime().halt(0);
    }
}
