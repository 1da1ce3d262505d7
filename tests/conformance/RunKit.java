// Runs the conformance kit with a properties file: java -cp 'archives/*' RunKit.java kit.properties
//
// The kit prints a line for each case as it ends. What it throws in a case is printed here, behind
// "REASON: " and the case's name, with its further lines indented; "KIT ENDED" says that nothing
// is missing.

import java.io.FileReader;
import java.util.HashMap;
import java.util.Properties;
import org.eclipse.dataspacetck.core.system.ConsoleMonitor;
import org.eclipse.dataspacetck.runtime.TckRuntime;

public class RunKit {
    public static void main(String[] arguments) throws Exception {
        var read = new Properties();
        try (var file = new FileReader(arguments[0])) {
            read.load(file);
        }
        var settings = new HashMap<String, String>();
        read.forEach((name, value) -> settings.put(name.toString(), value.toString()));
        // JSON-LD contexts are looked for among the system's properties before the kit sets them.
        settings.forEach(System::setProperty);
        var summary = TckRuntime.Builder.newInstance()
                .properties(settings)
                .addPackage("org.eclipse.dataspacetck.dsp.verification")
                .monitor(new ConsoleMonitor(true, false))
                .build()
                .execute();
        for (var failure : summary.getFailures()) {
            System.out.println("REASON: " + failure.getTestIdentifier().getDisplayName());
            System.out.println("  " + String.valueOf(failure.getException()).replace("\n", "\n  "));
        }
        System.out.println("KIT ENDED");
        // A case that failed may leave a thread of the kit waiting.
        System.exit(0);
    }
}
