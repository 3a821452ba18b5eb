import type { Metadata } from "next";
import type { ReactNode } from "react";
import { Account } from "@/components/account";
import "./globals.css";

export const metadata: Metadata = {
  title: "Vestibule example",
  description: "A Next.js app that leaves authentication to the gateway in front of it.",
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <Account />
        <main>{children}</main>
      </body>
    </html>
  );
}
