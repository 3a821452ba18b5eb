// Loaded before Next.js: its server ends when our standard input does, so also when the test is gone, however it went.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
