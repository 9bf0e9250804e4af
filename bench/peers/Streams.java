import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams, exactly_once_v2: the ids in RocksDB with a changelog, JSON by Jackson's streaming parser. */
public final class Streams {
  private static final JsonFactory JSON = new JsonFactory();
  private static final byte[] SEEN = {1};

  /** Two legs a transfer, none for a repeat. */
  private static final class Post implements Processor<String, byte[], String, byte[]> {
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(128);
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> seen;

    @Override
    public void init(ProcessorContext<String, byte[]> given) {
      context = given;
      seen = given.getStateStore("seen");
    }

    @Override
    public void process(Record<String, byte[]> record) {
      String id = null;
      String source = null;
      String target = null;
      long amount = 0;
      try (JsonParser parser = JSON.createParser(record.value())) {
        parser.nextToken();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
          String field = parser.currentName();
          parser.nextToken();
          switch (field) {
            case "event_id" -> id = parser.getText();
            case "src" -> source = parser.getText();
            case "dst" -> target = parser.getText();
            case "amount" -> amount = parser.getLongValue();
            default -> parser.skipChildren();
          }
        }
        if (seen.putIfAbsent(id, SEEN) == null) {
          context.forward(new Record<>(source, leg(id, source, -amount), record.timestamp()));
          context.forward(new Record<>(target, leg(id, target, amount), record.timestamp()));
        }
      } catch (IOException exception) {
        throw new UncheckedIOException(exception);
      }
    }

    private byte[] leg(String id, String account, long delta) throws IOException {
      buffer.reset();
      try (JsonGenerator made = JSON.createGenerator(buffer)) {
        made.writeStartObject();
        made.writeStringField("event_id", id);
        made.writeStringField("account", account);
        made.writeNumberField("delta", delta);
        made.writeEndObject();
      }
      return buffer.toByteArray();
    }
  }

  public static void main(String[] arguments) throws InterruptedException {
    Properties settings = new Properties();
    settings.put("application.id", System.getenv("BENCH_GROUP"));
    settings.put("bootstrap.servers", System.getenv("BENCH_BROKER"));
    settings.put("state.dir", System.getenv("BENCH_STATE"));
    settings.put("num.stream.threads", System.getenv("BENCH_THREADS"));
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("commit.interval.ms", "100");
    settings.put("replication.factor", "1");
    settings.put("consumer.auto.offset.reset", "earliest");
    String instance = System.getenv("BENCH_INSTANCE");
    if (instance != null) {
      settings.put("group.instance.id", instance);
    }
    Topology topology = new Topology();
    topology.addSource(
        "source", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), System.getenv("BENCH_SOURCE"));
    topology.addProcessor("post", Post::new, "source");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("seen"), Serdes.String(), Serdes.ByteArray()),
        "post");
    topology.addSink(
        "output", System.getenv("BENCH_OUTPUT"), Serdes.String().serializer(), Serdes.ByteArray().serializer(), "post");
    KafkaStreams streams = new KafkaStreams(topology, settings);
    CountDownLatch ended = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      streams.close(Duration.ofSeconds(8));
      ended.countDown();
    }));
    streams.start();
    ended.await();
  }
}
