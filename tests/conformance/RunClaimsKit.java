// Runs packages of the claims protocol's conformance kit with a properties file:
//
//     java -cp 'archives/*' RunClaimsKit.java kit.properties presentation.verifier
//
// Prints a line for each case as it ends, by package and method: titles are not kept apart by the
// kit. What it throws in a case is printed behind "REASON: " and the case's name, with its further
// lines indented; "KIT ENDED" says that nothing is missing.

import java.io.FileReader;
import java.util.Arrays;
import java.util.Properties;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

public class RunClaimsKit {
    private static final String CASES = "org.eclipse.dataspacetck.dcp.verification.";

    public static void main(String[] arguments) throws Exception {
        var settings = new Properties();
        try (var file = new FileReader(arguments[0])) {
            settings.load(file);
        }
        settings.forEach((name, value) -> System.setProperty(name.toString(), value.toString()));
        var request = LauncherDiscoveryRequestBuilder.request()
                .filters(ClassNameFilter.includeClassNamePatterns(".*Test"))
                .selectors(Arrays.stream(arguments)
                        .skip(1)
                        .map(section -> DiscoverySelectors.selectPackage(CASES + section))
                        .toList())
                .build();
        var launcher = LauncherFactory.create();
        launcher.registerTestExecutionListeners(new Telling());
        launcher.execute(request);
        System.out.println("KIT ENDED");
        // A case that failed may leave a thread of the kit waiting.
        System.exit(0);
    }

    private static class Telling implements TestExecutionListener {
        @Override
        public void executionFinished(TestIdentifier test, TestExecutionResult result) {
            var name = test.getSource()
                    .filter(MethodSource.class::isInstance)
                    .map(source -> name((MethodSource) source))
                    .orElse(test.getDisplayName());
            if (test.isTest()) {
                System.out.println(result.getStatus() + ": " + name);
            }
            result.getThrowable().ifPresent(thrown -> {
                System.out.println("REASON: " + name);
                System.out.println("  " + String.valueOf(thrown).replace("\n", "\n  "));
            });
        }

        private static String name(MethodSource source) {
            var type = source.getClassName();
            return type.substring(CASES.length(), type.lastIndexOf('.')) + ":" + source.getMethodName();
        }
    }
}
