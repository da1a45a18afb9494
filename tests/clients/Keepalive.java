// Asks a server over persistent connections, and tells what was lost.
//
//     java Keepalive.java http://127.0.0.1:PORT
//
// Each connection belongs to an HttpClient of its own. Every other one may speak HTTP/2, and so
// offers with its requests, also with those that have a body, to go on in it (h2c). Java sends a
// request for a page again if its connection had been closed, and an upload never: half of the
// connections upload. Pauses between two requests are short, or long, up to a second. Each time that
// all connections have had their last answer from one process, and it is another one than before, the
// line `all PID` is printed. When stdin ends, each finishes its request, and one line of JSON says
// what came of it.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public class Keepalive {
    static final int CONNECTIONS = 8;
    static final Duration TIME_LIMIT = Duration.ofSeconds(15);

    final String base;
    final CountDownLatch stop = new CountDownLatch(1);
    final String[] latest = new String[CONNECTIONS];
    final List<String> failures = new ArrayList<>();
    String agreed;
    int requests;
    int told;

    Keepalive(String base) {
        this.base = base;
    }

    synchronized void begun() {
        requests += 1;
    }

    synchronized void answered(int number, String pid, boolean isTold) {
        told += isTold ? 1 : 0;
        latest[number] = pid;
        if (!pid.equals(agreed) && Arrays.stream(latest).allMatch(pid::equals)) {
            agreed = pid;
            System.out.println("all " + pid);
        }
    }

    synchronized void failed(int number, int nth, Exception error) {
        failures.add("connection " + number + ", request " + nth + ": " + error);
    }

    HttpRequest request(boolean uploads, int nth) {
        String path = uploads ? "/upload" : nth % 4 == 0 ? "/slow?ms=20" : "/";
        var request = HttpRequest.newBuilder(URI.create(base + path)).timeout(TIME_LIMIT);
        return uploads ? request.POST(BodyPublishers.ofString(body(nth))).build() : request.build();
    }

    static String body(int nth) {
        return "x".repeat(1000 * (1 + nth % 20));
    }

    void ask(HttpClient client, int number, int nth) throws Exception {
        boolean uploads = number % 4 < 2;
        HttpResponse<String> response = client.send(request(uploads, nth), BodyHandlers.ofString());
        String pid = response.headers().firstValue("x-pid").orElse("");
        String wanted = uploads ? "len=" + body(nth).length() + " " : "pid=" + pid + "\nok\n";
        if (response.statusCode() != 200 || !response.body().startsWith(wanted)) {
            throw new Exception("status " + response.statusCode() + ", " + response.body());
        }
        String connection = response.headers().firstValue("connection").orElse("");
        answered(number, pid, connection.equals("close"));
    }

    void drive(int number) {
        var version = number % 2 == 0 ? HttpClient.Version.HTTP_1_1 : HttpClient.Version.HTTP_2;
        HttpClient client = HttpClient.newBuilder().version(version).build();
        try {
            int nth = 0;
            do {
                nth += 1;
                begun();
                try {
                    ask(client, number, nth);
                } catch (Exception error) { // whatever it is, the request was lost
                    failed(number, nth, error);
                }
            } while (!stop.await(pause(number), TimeUnit.MILLISECONDS));
        } catch (InterruptedException end) {
            throw new IllegalStateException(end);
        }
    }

    static long pause(int number) {
        long shortest = 1 + ThreadLocalRandom.current().nextLong(50);
        return number < CONNECTIONS / 2 ? shortest : 20 * shortest;
    }

    static String quoted(String text) {
        String plain = text.replaceAll("\\p{Cntrl}", " ").replace("\\", "\\\\").replace("\"", "\\\"");
        return "\"" + plain + "\"";
    }

    public static void main(String[] arguments) throws Exception {
        var all = new Keepalive(arguments[0]);
        var drives = new ArrayList<Thread>();
        for (int number = 0; number < CONNECTIONS; number++) {
            int which = number;
            drives.add(new Thread(() -> all.drive(which)));
        }
        drives.forEach(Thread::start);
        System.in.readAllBytes();
        all.stop.countDown();
        for (Thread drive : drives) {
            drive.join();
        }
        String failures = all.failures.stream().map(Keepalive::quoted).collect(Collectors.joining(","));
        System.out.printf(
                "{\"requests\":%d,\"told\":%d,\"failures\":[%s]}%n", all.requests, all.told, failures);
    }
}
