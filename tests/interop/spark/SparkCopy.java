import org.apache.spark.sql.*;
import org.apache.spark.sql.streaming.*;

/**
 * Copies topic args[1] with Spark Structured Streaming into topic args[2], at least once as its sink for Kafka does, and into text files in the
 * folder args[3]/files, exactly once. The key of each copy is the partition and offset it came from. Prints "running" and how many batches
 * were done before, and goes on until it is killed, or stdin ends.
 */
public class SparkCopy {
    static int batches(String folder) {
        String[] all = new java.io.File(folder + "/commits").list((dir, name) -> name.matches("\\d+"));
        return all == null ? 0 : all.length;
    }

    public static void main(String[] args) throws Exception {
        SparkSession s = SparkSession.builder().master("local[2]").appName("copy").config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2").config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate();
        Dataset<Row> lines = s.readStream().format("kafka").option("kafka.bootstrap.servers", args[0]).option("subscribe", args[1])
            .option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", "1000").load();
        int before = batches(args[3] + "/to-kafka");
        StreamingQuery toKafka = lines.selectExpr("concat(partition, '-', offset) AS key", "value").writeStream().format("kafka")
            .option("kafka.bootstrap.servers", args[0]).option("topic", args[2]).option("checkpointLocation", args[3] + "/to-kafka").start();
        StreamingQuery toFiles = lines.selectExpr("CAST(value AS STRING) AS value").writeStream().format("text")
            .option("path", args[3] + "/files").option("checkpointLocation", args[3] + "/to-files").start();
        System.out.println("running " + before);
        Thread over = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (Exception e) {
                e.printStackTrace();
            }
            Runtime.getRuntime().halt(0);
        });
        over.start();
        s.streams().awaitAnyTermination(); // a failure
    }
}
