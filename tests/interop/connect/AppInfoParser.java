package org.apache.kafka.common.utils;

/** What connect-file 4.3.1 needs, which runs on Kafka Connect 4.4.0: that has moved this class, and connect-file 4.4.0 is not published. */
public class AppInfoParser {
    public static String getVersion() { return "4.3.1"; }
}
